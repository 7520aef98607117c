"""Suites: the cells of a matrix, their identity, and the runs they hold."""

import dataclasses
import hashlib
import itertools
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, overload

from ecrl.config import failure_schedule as failures
from ecrl.config.axes import LAUNCHER_KEY, PLACE_KEY, SUITE_AXES, format_axes, format_value, matches, split_key
from ecrl.config.hashing import NEVER, Later, canonical_json, identity, later_values, slug
from ecrl.config.job import JobSettings
from ecrl.config.matrix import Matrix
from ecrl.config.recipe import REFERENCE, Recipe
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.records import failure_checks

_REPEAT_SUFFIX = "-aa"

_slug = lru_cache(maxsize=4096)(slug)
_quoted = lru_cache(maxsize=4096)(canonical_json)


_axes_text = lru_cache(maxsize=4096)(format_axes)


class FailurePlan(tuple[dict[str, Any], ...]):
    """Planned failures, as built by `ecrl.config.failure_schedule.build_plan`. Many suites share one plan."""

    @cached_property
    def text(self) -> str:
        """The canonical JSON of the plan."""
        return canonical_json(self)

    @cached_property
    def failure_steps(self) -> tuple[int | str, ...]:
        """The place of each failure, in order: a step, or a text such as '900@persist' or '412.5s'."""
        return tuple(map(failure_checks.format_failure_step, self))


def name_repeat(variant: str) -> str:
    """The name of a variant's A/A repeat: its place in a block's order, and the folder of its run."""
    return variant + _REPEAT_SUFFIX


def get_repeated_variant(repeat: str) -> str:
    """The variant whose A/A repeat has this name."""
    return repeat.removesuffix(_REPEAT_SUFFIX)


@lru_cache(maxsize=64)
def _settings_texts(checkpoint: CheckpointSettings, train: TrainSettings) -> tuple[str, str, str]:
    """The canonical JSON of both settings, and their suffix of a suite id, such as '-warm-bf16-fsdp2'.

    The suffix is the launcher unless it is cold, then the later fields' values that are not legacy, ordered by name.
    """
    later = sorted([*later_values(checkpoint), *later_values(train)])
    parts = [*([train.launcher] if train.launcher != "cold" else []), *(slug(format_value(v)) for _, v in later)]
    suffix = "".join(f"-{part}" for part in parts)
    return canonical_json(identity(checkpoint)), canonical_json(identity(train)), suffix


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One cell of the matrix: a value for every axis. A suite is one row of the manifest.

    axes: the values of the axes that set an option of a variant, or the place of checkpoints, by key.
    axis_values: (key, value) of every axis in `[axes]`, in file order.
    recipes: the recipe of each variant. An engine without options has none.
    """

    dataset: str
    model: str
    failure_label: str
    failures: FailurePlan
    checkpoint_every: int
    max_inflight: int
    train: TrainSettings
    checkpoint: CheckpointSettings
    axes: Annotated[Mapping[str, Any], Later(legacy={})] = dataclasses.field(default_factory=dict)
    job: Annotated[JobSettings | None, Later(legacy=None)] = None
    # Seeds and variants are not part of the identity: adding one adds runs to a suite and repeats none.
    seeds: Annotated[tuple[int, ...], NEVER]
    variants: Annotated[tuple[str, ...], NEVER]
    axis_values: Annotated[tuple[tuple[str, Any], ...], NEVER] = ()
    recipes: Annotated[Mapping[str, Recipe], NEVER] = dataclasses.field(default_factory=dict)

    @cached_property
    def suite_id(self) -> str:
        """A readable slug and 8 hex digits of the content's SHA-256. Does not depend on the position in the matrix."""
        # Joined from cached texts, because many suites share their parts.
        checkpoint, train, suffix = _settings_texts(self.checkpoint, self.train)
        job = "" if self.job is None else f',"job":{canonical_json(identity(self.job))}'
        content = (
            f'"checkpoint":{checkpoint},"checkpoint_every":{self.checkpoint_every}'
            f',"dataset":{_quoted(self.dataset)},"failure_label":{_quoted(self.failure_label)}'
            f',"failures":{self.failures.text}{job},"max_inflight":{self.max_inflight}'
            f',"model":{_quoted(self.model)},"train":{train}}}'
        )
        if self.axes:
            content = f'"axes":{canonical_json(dict(self.axes))},{content}'
            suffix += "".join(f"-{_slug(format_value(value))}" for _, value in sorted(self.axes.items()))
        task = "-".join(filter(None, (_slug(self.dataset), _slug(self.model))))  # a script has no data set
        name = f"{task}-{_slug(self.failure_label)}-k{self.checkpoint_every}-q{self.max_inflight}{suffix}"
        return f"{name}-{hashlib.sha256(f'{{{content}'.encode()).hexdigest()[:8]}"

    @property
    def failure_steps(self) -> tuple[int | str, ...]:
        """The place of each planned failure; see `FailurePlan.failure_steps`."""
        return self.failures.failure_steps

    @property
    def cell(self) -> dict[str, Any]:
        """The value of every axis, by name. `[[exclude]]` and a claim's `where` select by these values."""
        own = (self.dataset, self.model, self.failure_label, self.checkpoint_every, self.max_inflight)
        return dict(zip(SUITE_AXES, (*own, self.train.launcher), strict=True)) | dict(self.axis_values)

    @property
    def axes_text(self) -> str:
        """The values of `[axes]` in the form of the manifest: 'train.nproc=2;variants.ram.disk_every=10'."""
        return _axes_text(self.axis_values)


@dataclass(frozen=True)
class _Settings:
    """One combination of the values of `[axes]` and of the launchers."""

    train: TrainSettings
    checkpoint: CheckpointSettings
    axes: Mapping[str, Any]
    axis_values: tuple[tuple[str, Any], ...]
    recipes: Mapping[str, Recipe]

    @property
    def key(self) -> tuple[Any, ...]:
        """A hashable key, different for each combination."""
        return self.train, self.checkpoint, tuple(sorted(self.axes.items()))


class Suites(Sequence[Suite]):
    """Every suite of a matrix, in file order; the last axis varies fastest. A suite is built on access."""

    def __init__(self, matrix: Matrix) -> None:
        axes = matrix.matrix
        self._matrix, self._job = matrix, matrix.job_settings
        self._settings = _combine_settings(matrix)
        labels = list(matrix.failures)
        self._axes: tuple[list[Any], ...] = (
            axes.datasets, axes.models, labels, axes.checkpoint_every, axes.max_inflight, self._settings,
        )  # fmt: skip
        self._seeds, self._variants = tuple(axes.seeds), tuple(axes.variants)
        self._plans: dict[tuple[str, int, int], FailurePlan] = {}

    def __len__(self) -> int:
        return self._num_cells if self._kept is None else len(self._kept)

    def __iter__(self) -> Iterator[Suite]:
        cells = itertools.starmap(self._suite, itertools.product(*self._axes))
        return (suite for suite in cells if not self._is_excluded(suite)) if self._matrix.exclude else cells

    @overload
    def __getitem__(self, index: int) -> Suite: ...
    @overload
    def __getitem__(self, index: slice) -> list[Suite]: ...
    def __getitem__(self, index: int | slice) -> Suite | list[Suite]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        position = range(len(self))[index]
        return self._make(position if self._kept is None else self._kept[position])

    def group_equivalent(self) -> Iterator[tuple[Suite, int]]:
        """Group the suites that differ only in max_inflight and launcher.

        Yields for each group its suite with the highest max_inflight, and the number of suites in the group.
        """
        if not self._matrix.exclude:
            # Without exclusions the groups follow from the axes, so no other suite needs to be built.
            datasets, models, labels, intervals, inflights, settings = self._axes
            lots: dict[tuple[Any, ...], list[_Settings]] = {}
            for one in settings:
                train, *rest = one.key
                lots.setdefault((dataclasses.replace(train, launcher="cold"), *rest), []).append(one)
            for dataset, model, label, every in itertools.product(datasets, models, labels, intervals):
                for lot in lots.values():
                    yield self._suite(dataset, model, label, every, max(inflights), lot[0]), len(inflights) * len(lot)
            return
        groups = dict[tuple[Any, ...], list[Suite]]()
        for suite in self:
            train = dataclasses.replace(suite.train, launcher="cold")
            axes = tuple(sorted(suite.axes.items()))
            cell = (suite.dataset, suite.model, suite.failure_label, suite.checkpoint_every)
            groups.setdefault((*cell, train, suite.checkpoint, axes), []).append(suite)
        for group in groups.values():
            yield max(group, key=lambda suite: suite.max_inflight), len(group)

    def index_of(self, suite: Suite) -> int:
        """The index of a suite of this matrix."""
        index = 0
        settings = suite.train, suite.checkpoint, tuple(sorted(suite.axes.items()))
        cell = (
            suite.dataset, suite.model, suite.failure_label, suite.checkpoint_every, suite.max_inflight, settings,
        )  # fmt: skip
        for indices, value in zip(self._indices, cell, strict=True):
            index = index * len(indices) + indices[value]
        return index if self._kept is None else bisect_left(self._kept, index)

    @cached_property
    def _num_cells(self) -> int:
        return math.prod(map(len, self._axes))

    @cached_property
    def _kept(self) -> list[int] | None:
        """The indices, among all cells, of the cells that `[[exclude]]` keeps. None without `[[exclude]]`."""
        if not self._matrix.exclude:
            return None
        return [index for index in range(self._num_cells) if not self._is_excluded(self._make(index))]

    def _is_excluded(self, suite: Suite) -> bool:
        cell = suite.cell
        return any(matches(chosen, cell) for chosen in self._matrix.exclude)

    @cached_property
    def _indices(self) -> list[dict[Any, int]]:
        values = (*self._axes[:-1], [settings.key for settings in self._settings])
        return [{value: index for index, value in enumerate(own)} for own in values]

    def _make(self, index: int) -> Suite:
        """The suite of the cell with this index among all cells."""
        rest, cell = index, []
        for values in reversed(self._axes):
            rest, place = divmod(rest, len(values))
            cell.append(values[place])
        return self._suite(*reversed(cell))

    def _suite(self, dataset: str, model: str, label: str, every: int, inflight: int, settings: _Settings) -> Suite:
        return Suite(
            dataset=dataset,
            model=model,
            failure_label=label,
            failures=self._plan(label, every, settings.train.nproc),  # one object for all suites that have it
            checkpoint_every=every,
            max_inflight=inflight,
            train=settings.train,
            checkpoint=settings.checkpoint,
            axes=settings.axes,
            job=self._job,
            seeds=self._seeds,
            variants=self._variants,
            axis_values=settings.axis_values,
            recipes=settings.recipes,
        )

    def _plan(self, label: str, every: int, nproc: int) -> FailurePlan:
        if (label, every, nproc) not in self._plans:
            planned = failures.build_plan(self._matrix.failures[label], nproc, every)
            self._plans[label, every, nproc] = FailurePlan(planned)
        return self._plans[label, every, nproc]


def _combine_settings(matrix: Matrix) -> list[_Settings]:
    """Every combination of the values of `[axes]` and the launchers, in file order. The launchers vary fastest."""
    launchers = matrix.matrix.launchers or [matrix.train_settings.launcher]
    combined = []
    for values in itertools.product(*matrix.axes.values(), launchers):
        chosen = dict(zip((*matrix.axes, LAUNCHER_KEY), values, strict=True))
        tables: dict[str, dict[str, Any]] = {"train": {}, "checkpoint": {}}
        axes, options = dict[str, Any](), dict[str, dict[str, Any]]()
        for key, value in chosen.items():
            match split_key(key):
                case (table, name):
                    tables[table][name] = value
                    if key == PLACE_KEY:  # identifies nothing in its own table
                        axes[key] = value
                case (_, variant, option):
                    axes[key] = options.setdefault(variant, {})[option] = value
        recipes = {
            variant: dataclasses.replace(recipe, options={**recipe.options, **options.get(variant, {})})
            for variant in matrix.matrix.variants
            if (recipe := matrix.get_recipe(variant)) is not None
        }
        combined.append(
            _Settings(
                dataclasses.replace(matrix.train_settings, **tables["train"]),
                dataclasses.replace(matrix.checkpoint_settings, **tables["checkpoint"]),
                axes,
                tuple((key, chosen[key]) for key in matrix.axes),
                recipes,
            )
        )
    return combined


def list_train_settings(matrix: Matrix) -> list[TrainSettings]:
    """The distinct `[train]` settings of the suites, one for each combination of axis values."""
    return list(dict.fromkeys(settings.train for settings in _combine_settings(matrix)))


def expand_matrix(matrix: Matrix) -> Suites:
    """Every suite of the matrix, in file order; the last axis varies fastest."""
    return Suites(matrix)


def build_run_specs(
    suite: Suite,
    seed: int,
    order: tuple[str, ...],
    *,
    prefix: str,
    device: str,
    data_root: str | None,
    claims_hash: str,
) -> list[RunSpec]:
    """The runs of one block, in the order they run.

    `reference` has neither checkpoints nor failures. An A/A repeat is the run of its variant a second time.
    """
    arms = [name if name in suite.variants else get_repeated_variant(name) for name in order]
    return [
        RunSpec(
            prefix=prefix,
            suite_id=suite.suite_id,
            dataset=suite.dataset,
            model=suite.model,
            failure_label=suite.failure_label,
            checkpoint_every=suite.checkpoint_every,
            max_inflight=suite.max_inflight,
            variant=variant,
            seed=seed,
            device=device,
            train=suite.train,
            checkpoint=suite.checkpoint,
            failures=() if variant == REFERENCE else suite.failures,
            data_root=data_root,
            block_order=order,
            block_position=position,
            claims_hash=claims_hash,
            recipe=suite.recipes.get(variant),
            axes={key: value for key, value in suite.axes.items() if key == PLACE_KEY},
            job=suite.job,
        )
        for position, variant in enumerate(arms)
    ]
