"""Suites: the cells of a matrix, their identity, and the runs they hold."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Annotated, Any, overload

from ecrl.config import failure_schedule as failures
from ecrl.config.hashing import NEVER, canonical_json, identity, slug
from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.records import failure_checks

REFERENCE = "reference"
REPEAT = "reference-aa"  # the A/A repeat: its place in a block's order, and the folder of its run

_slug = lru_cache(maxsize=4096)(slug)
_quoted = lru_cache(maxsize=4096)(canonical_json)


@lru_cache(maxsize=64)
def _settings(settings: TrainSettings | CheckpointSettings) -> str:
    return canonical_json(identity(settings))


class FailurePlan(tuple[dict[str, Any], ...]):
    """Planned failures, as `ecrl.config.failure_schedule.build_plan` decided them for one schedule and interval; many
    suites
    share one."""

    @cached_property
    def text(self) -> str:
        """Its canonical JSON."""
        return canonical_json(self)

    @cached_property
    def failure_steps(self) -> tuple[int | str, ...]:
        """Where the failures are planned, in order: a step, or e.g. '900@persist', '412.5s'."""
        return tuple(map(failure_checks.format_failure_step, self))


@dataclass(frozen=True, kw_only=True)
class Suite:
    """One cell: dataset x model x failure schedule x checkpoint interval x max in-flight. One manifest row."""

    dataset: str
    model: str
    failure_label: str
    failures: FailurePlan
    checkpoint_every: int
    max_inflight: int
    train: TrainSettings
    checkpoint: CheckpointSettings
    # Adding a seed or a variant adds runs to a suite and reruns none: neither says what the suite is.
    seeds: Annotated[tuple[int, ...], NEVER]
    variants: Annotated[tuple[str, ...], NEVER]

    @cached_property
    def suite_id(self) -> str:
        """Readable slug + 8 hex of the SHA-256 of the content; never the position in the matrix."""
        parts = (self.dataset, self.model, self.failure_label)
        name = "-".join(map(_slug, parts)) + f"-k{self.checkpoint_every}-q{self.max_inflight}"
        if self.train.launcher != "cold":
            name += f"-{self.train.launcher}"
        return f"{name}-{hashlib.sha256(self._content_text.encode()).hexdigest()[:8]}"

    @property
    def _content_text(self) -> str:
        """The canonical JSON of the suite's identity, put together from parts that many suites share."""
        return (
            f'{{"checkpoint":{_settings(self.checkpoint)},"checkpoint_every":{self.checkpoint_every}'
            f',"dataset":{_quoted(self.dataset)},"failure_label":{_quoted(self.failure_label)}'
            f',"failures":{self.failures.text},"max_inflight":{self.max_inflight}'
            f',"model":{_quoted(self.model)},"train":{_settings(self.train)}}}'
        )

    @property
    def failure_steps(self) -> tuple[int | str, ...]:
        """Where the failures are planned; see `FailurePlan.failure_steps`."""
        return self.failures.failure_steps


class Suites(Sequence[Suite]):
    """Every suite of a matrix, in file order, the last axis varying fastest; each is made when it is asked for."""

    def __init__(self, matrix: Matrix) -> None:
        axes, train = matrix.matrix, matrix.train_settings
        self._matrix, self._checkpoint = matrix, matrix.checkpoint_settings
        self._trains = [dataclasses.replace(train, launcher=name) for name in axes.launchers or (train.launcher,)]
        labels = list(matrix.failures)
        self._axes: tuple[list[Any], ...] = (
            axes.datasets, axes.models, labels, axes.checkpoint_every, axes.max_inflight, self._trains,
        )  # fmt: skip
        self._seeds, self._variants = tuple(axes.seeds), tuple(axes.variants)
        self._plans: dict[tuple[str, int], FailurePlan] = {}

    def __len__(self) -> int:
        return math.prod(map(len, self._axes))

    def __iter__(self) -> Iterator[Suite]:
        return itertools.starmap(self._suite, itertools.product(*self._axes))

    @overload
    def __getitem__(self, index: int) -> Suite: ...
    @overload
    def __getitem__(self, index: slice) -> list[Suite]: ...
    def __getitem__(self, index: int | slice) -> Suite | list[Suite]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        rest = range(len(self))[index]
        cell = []
        for values in reversed(self._axes):
            rest, place = divmod(rest, len(values))
            cell.append(values[place])
        return self._suite(*reversed(cell))

    def group_equivalent(self) -> Iterator[tuple[Suite, int]]:
        """One suite of every lot of suites that differ in max_inflight and launcher alone, the one with the most in
        flight, and how many there are of it."""
        datasets, models, labels, intervals, inflights, trains = self._axes
        for dataset, model, label, every in itertools.product(datasets, models, labels, intervals):
            suite = self._suite(dataset, model, label, every, max(inflights), trains[0])
            yield suite, len(inflights) * len(trains)

    def index_of(self, suite: Suite) -> int:
        """Where a suite of this matrix stands in it."""
        place = 0
        cell = (
            suite.dataset, suite.model, suite.failure_label, suite.checkpoint_every, suite.max_inflight, suite.train,
        )  # fmt: skip
        for places, value in zip(self._indices, cell, strict=True):
            place = place * len(places) + places[value]
        return place

    @cached_property
    def _indices(self) -> list[dict[Any, int]]:
        return [{value: place for place, value in enumerate(values)} for values in self._axes]

    def _suite(self, dataset: str, model: str, label: str, every: int, inflight: int, train: TrainSettings) -> Suite:
        return Suite(
            dataset=dataset,
            model=model,
            failure_label=label,
            failures=self._plan(label, every),  # one object for all suites that have it
            checkpoint_every=every,
            max_inflight=inflight,
            train=train,
            checkpoint=self._checkpoint,
            seeds=self._seeds,
            variants=self._variants,
        )

    def _plan(self, label: str, every: int) -> FailurePlan:
        if (label, every) not in self._plans:
            planned = failures.build_plan(self._matrix.failures[label], self._trains[0].nproc, every)
            self._plans[label, every] = FailurePlan(planned)
        return self._plans[label, every]


def expand_matrix(matrix: Matrix) -> Suites:
    """Every suite of the matrix, in file order, the last axis varying fastest."""
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
    """The runs of one block, in the order they run. `reference` and its A/A repeat, which is the same run once more,
    have neither checkpoints nor failures."""
    return [
        RunSpec(
            prefix=prefix,
            suite_id=suite.suite_id,
            dataset=suite.dataset,
            model=suite.model,
            failure_label=suite.failure_label,
            checkpoint_every=suite.checkpoint_every,
            max_inflight=suite.max_inflight,
            variant=REFERENCE if variant == REPEAT else variant,
            seed=seed,
            device=device,
            train=suite.train,
            checkpoint=suite.checkpoint,
            failures=() if variant in (REFERENCE, REPEAT) else suite.failures,
            data_root=data_root,
            block_order=order,
            block_position=position,
            claims_hash=claims_hash,
        )
        for position, variant in enumerate(order)
    ]
