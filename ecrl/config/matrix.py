"""The tables of a matrix file, as pydantic models.

docs/matrix.md is generated from the text under each field.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    create_model,
    model_validator,
)

from ecrl import plugins
from ecrl.config.failure_entry import Entry, read_older_files, step_as_entry
from ecrl.config.hashing import NEVER, Later, content_hash, identity
from ecrl.config.job import JobSettings
from ecrl.config.kind import ConfigKind, load_kind
from ecrl.config.recipe import ENGINE, REFERENCE, Recipe
from ecrl.config.table import check_no_repeats, get_fields, make_member_check
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.errors import unknown_name

EXPECT = re.compile(
    r"(?P<what>ratio|difference|rate|value)\s*(?:(?P<op>>=|<=|>|<)\s*(?P<threshold>[-+]?\d+(?:\.\d+)?)"
    r"|within\s*(?P<margin>\d+(?:\.\d+)?))"
)


class _Table(BaseModel):
    # canonical JSON, and so a hash, allows no NaN or infinity
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_older_files(cls, raw: Any, info: ValidationInfo) -> Any:
        return read_older_files(cls, raw, info)


Count = Annotated[int, Field(ge=1)]
DatasetName = Annotated[str, make_member_check("dataset", of_scripts=True)]
ModelName = Annotated[str, make_member_check("model", of_scripts=True)]
LauncherName = Annotated[str, make_member_check("launcher")]
TrackerName = Annotated[str, make_member_check("tracker")]
VARIANTS = "variants"  # key of a validation's context: the names of the recipes in the file
KIND = "kind"  # key of a validation's context: the kind of experiment
DEFAULT_KIND = "training"
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")  # part of folder names and of journal lines


def _check_variant(name: str, info: ValidationInfo) -> str:
    valid = [REFERENCE, *plugins.names("engine"), *(info.context or {}).get(VARIANTS, ())]
    if name not in valid:
        raise ValueError(unknown_name("variant", name, valid))
    return name


VariantName = Annotated[str, AfterValidator(_check_variant)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
_AXIS = (Field(min_length=1), AfterValidator(check_no_repeats))


class Axes(_Table):
    """`[matrix]`: the axes and their values. Each combination is a suite, but for seeds and variants, which make its
    runs."""

    datasets: Annotated[list[DatasetName], *_AXIS]
    """data sets, by name"""
    models: Annotated[list[ModelName], *_AXIS]
    """models, by name"""
    checkpoint_every: Annotated[list[Count], *_AXIS]
    """steps between two checkpoints"""
    max_inflight: Annotated[list[Count], *_AXIS] = [4]
    """checkpoints that may be in flight at once; engines limited to one ignore it"""
    seeds: Annotated[list[Seed], *_AXIS] = [1337]
    """seeds, one block of runs each"""
    variants: Annotated[list[VariantName], *_AXIS] = ["reference", "blocking", "overlapped"]
    """variants to compare: `reference`, names of engines, and names of recipes `[variants.NAME]`"""
    launchers: Annotated[list[LauncherName], *_AXIS] | None = None
    """replaces `train.launcher`; each launcher has its own suites, so no block mixes launchers"""


Schedule = list[Entry]
AxisValue = bool | int | float | str


if TYPE_CHECKING:  # made from the dataclasses below, which a type checker cannot follow

    class TrainTable(_Table):
        """`[train]`, validated."""

    class CheckpointTable(_Table):
        """`[checkpoint]`, validated."""

        fallback_dirs: tuple[str, ...] = ()

else:
    TrainTable = create_model("TrainSettings", __base__=_Table, **get_fields(TrainSettings))
    CheckpointTable = create_model("CheckpointSettings", __base__=_Table, **get_fields(CheckpointSettings))


class JobTable(_Table):
    """`[job]`: a training script of yours, instead of `datasets` and `models` (docs/own-script.md)."""

    script: Annotated[str, NEVER]
    """the script, which calls `ecrl.attach`; relative to the matrix file. A campaign runs a copy of it"""
    args: list[str] = []
    """its arguments"""
    sha256: str = ""
    """the SHA-256 of its bytes; ecrl writes it"""


def _read_endless(value: Any) -> Any:
    return None if value == math.inf else value  # as people write `no limit`


def _read_older_aa(value: Any) -> Any:
    return [REFERENCE] * value if isinstance(value, bool) else value  # as versions before 0.2 wrote it


class RunOptions(_Table):
    """`[run]`: where and how patiently runs are made. Frozen with the matrix so that `resume` needs no flags;
    a difference here is no other experiment (except `device`)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """where to train; auto: GPUs if there are any"""
    gpus: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(check_no_repeats)] = []
    """GPUs to use, as nvidia-smi numbers them; empty: all"""
    data_root: str | None = None
    """folder of the data sets that are not built in"""
    retries: Annotated[int, Field(ge=0)] = 0
    """how often a failed run is repeated"""
    timeout_s: Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_read_endless)] = None
    """seconds after which a run is stopped and marked failed"""
    stall_timeout_s: Annotated[float, Field(gt=0)] | None = None
    """seconds without a step (or any other record of a rank) after which a run is stopped and marked failed: more than
    the start of PyTorch, the longest step and the longest checkpoint take"""
    jobs: Count = 1
    """suites that run at once, each on its own GPUs (or CPU cores)"""
    aa: Annotated[list[VariantName], BeforeValidator(_read_older_aa), AfterValidator(check_no_repeats)] = []
    """variants that are run a second time in the first block of each suite, to measure how equal runs differ;
    `true` stands for `["reference"]`"""
    warmup: bool = True
    """before the first run on a set of devices in a session, make a short run that is discarded"""
    stop_after_same: Annotated[int, Field(ge=0)] = 5
    """equal failures in a row after which a set of devices is no longer used; 0: never"""
    keep_final: Annotated[bool, Later(legacy=True)] = False
    """whether a completed run keeps its last checkpoint; failed and interrupted runs keep theirs"""
    trackers: Annotated[list[TrackerName], AfterValidator(check_no_repeats)] = []
    """tools that are fed with the runs while they go on, by name: see [trackers.md](trackers.md)"""


def _check_expectation(text: str) -> str:
    found = EXPECT.fullmatch(text.strip())
    if not found or math.isinf(float(found["threshold"] or found["margin"])):
        raise ValueError(
            f"found {text!r}, expected e.g. 'ratio > 1.00', 'difference < 0.5', 'ratio within 0.02', 'rate > 0.9',"
            " or of one variant 'value > 2.5'"
        )
    return text.strip()


def _load_kind(info: ValidationInfo) -> ConfigKind:
    name = (info.context or {}).get(KIND, DEFAULT_KIND)
    # An unknown kind is a problem of its own, and does not make one of every claim.
    return load_kind(name if name in plugins.names("experiment") else DEFAULT_KIND)


def _check_metric(name: str, info: ValidationInfo) -> str:
    kind = _load_kind(info)
    if name not in kind.claim_metrics and name not in kind.refused_metrics:
        raise ValueError(unknown_name("metric", name, kind.claim_metrics))
    return name


class Claim(_Table):
    """`[[claims]]`: what is expected of `metric`, written before the first run and judged by the report."""

    name: Annotated[str, Field(min_length=1)]
    """the claim's name in the report"""
    compare: Annotated[list[VariantName], Field(min_length=2, max_length=2)] | None = None
    """[A, B]: the claim is about A / B (`ratio`) or A - B (`difference`)"""
    metric: Annotated[str, AfterValidator(_check_metric)] = "goodput_steps_per_s"
    """a numeric column of the runs table"""
    expect: Annotated[str, AfterValidator(_check_expectation)]
    """`ratio > X`, `difference < X`, `value > X`, `rate > X`; or `within M`: the ratio lies in 1 +- M, the difference
    in 0 +- M"""
    of: Annotated[VariantName | None, Later(legacy=None)] = None
    """A: the claim is about A alone (`value`, `rate`), instead of `compare`"""
    where: Annotated[dict[str, AxisValue | list[AxisValue]], Later(legacy={})] = {}
    """the suites that the claim covers: a value, a pattern or a list of them for each axis; empty: all"""
    smallest: Annotated[Annotated[float, Field(gt=0)] | None, Later(legacy=None)] = None
    """the smallest effect of interest, as a share of 1 (`ratio`) or in the metric's unit"""

    @model_validator(mode="after")
    def _speaks_of_one_or_two(self, info: ValidationInfo) -> "Claim":
        if (self.compare is None) == (self.of is None):
            found = "neither compare nor of" if self.of is None else "both compare and of"
            raise ValueError(f"found {found}, expected either compare = [A, B] or of = A")
        what = self.expect.partition(" ")[0]
        fitting = ("value", "rate") if self.compare is None else ("ratio", "difference", "rate")
        if not self.expect.startswith(fitting):
            given = "of" if self.compare is None else "compare"
            raise ValueError(
                f"found expect = {self.expect!r} with {given}, expected {' or '.join(fitting)}, not {what}"
            )
        # The rate of one variant is a share of its runs. Of a number it would be the share above 0: all of them.
        outcomes = _load_kind(info).outcome_metrics
        if self.of is not None and (what == "rate") != (self.metric in outcomes):
            metrics = f"one of {', '.join(outcomes)}" if what == "rate" else "a number"
            raise ValueError(f"found metric = {self.metric!r} with expect = {self.expect!r}, expected {metrics}")
        return self

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants of the claim, one or two."""
        return tuple(self.compare) if self.compare is not None else (str(self.of),)


class Experiment(_Table):
    """`[experiment]`: what is run. The table may be left out."""

    kind: Annotated[str, make_member_check("experiment")] = DEFAULT_KIND
    """the kind of experiment"""


class Matrix(_Table):
    """A merged, valid matrix: what `<prefix>_matrix.toml` holds."""

    experiment: Annotated[Experiment, NEVER] = Experiment()
    matrix: Axes
    axes: Annotated[dict[str, Annotated[list[AxisValue], *_AXIS]], Later(legacy={})] = {}
    """`[axes]`: more axes. A key is that of another table, `"train.lr"`, `"checkpoint.keep"` or
    `"variants.NAME.OPTION"`, and its value a list of values, which make suites."""
    exclude: Annotated[list[dict[str, AxisValue | list[AxisValue]]], Later(legacy=[])] = []
    """`[[exclude]]`: cells that are left out. Each table names axes (dataset, model, failure, checkpoint_every,
    max_inflight, launcher, or a key of `[axes]`), each with a value, a shell pattern, or a list of them; a cell that
    matches all of them makes no suite."""
    variants: Annotated[dict[str, dict[str, AxisValue]], NEVER] = {}
    """`[variants.NAME]`: a recipe (an engine and its options) that `matrix.variants` may list by this name.
    A variant without a table is the engine of that name."""
    failures: Annotated[dict[str, Schedule], Field(min_length=1)] = {"none": []}
    """`[failures]`: schedules of planned failures, a list under a name. The names are the values of the axis `failure`;
    without the table there is one schedule, `none = []`."""
    job: Annotated[JobTable | None, Later(legacy=None)] = None
    """`[job]`: a script of yours, instead of data sets and models"""
    train: TrainTable
    checkpoint: CheckpointTable = CheckpointTable()
    run: Annotated[RunOptions, NEVER] = RunOptions()
    claims: list[Claim] = []
    _warnings: tuple[str, ...] = PrivateAttr(default=())
    _notes: tuple[str, ...] = PrivateAttr(default=())

    def add_warnings(self, warnings: Sequence[str]) -> "Matrix":
        """Add warnings to this matrix and return it."""
        self._warnings = (*self._warnings, *warnings)
        return self

    def add_notes(self, notes: Sequence[str]) -> None:
        """Add what is to be said of this matrix that is no oddity."""
        self._notes = (*self._notes, *notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of this matrix that is no oddity."""
        return self._notes

    @property
    def warnings(self) -> tuple[str, ...]:
        """Oddities of the file that are no problems, each with its place in the file."""
        return self._warnings

    @property
    def train_settings(self) -> TrainSettings:
        """`[train]` in the form that the workers read."""
        return TrainSettings(**self.train.model_dump())

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        """`[checkpoint]` in the form that the workers read."""
        return CheckpointSettings(**self.checkpoint.model_dump())

    @property
    def job_settings(self) -> JobSettings | None:
        """`[job]` in the form that the workers read; None without one."""
        return None if self.job is None else JobSettings(**self.job.model_dump())

    def get_recipe(self, variant: str) -> Recipe | None:
        """The recipe of a variant; None for `reference` and for an engine that has no options."""
        return None if variant not in self.variants else Recipe.from_table(variant, self.variants[variant])

    @property
    def engines(self) -> tuple[str, ...]:
        """The distinct engines of the variants."""
        named = (self.variants.get(name, {}).get(ENGINE, name) for name in self.matrix.variants if name != REFERENCE)
        return tuple(dict.fromkeys(map(str, named)))

    @property
    def content(self) -> dict[str, Any]:
        """The identity of the experiment: everything except the options of `[run]`, plus the device.

        Includes the recipe of each variant in the matrix, unless the recipe's identity is None (`Recipe.to_identity`).
        """
        content: dict[str, Any] = identity(self) | {"device": self.run.device}
        recipes = {name: identity(self.get_recipe(name)) for name in self.matrix.variants}
        if told := {name: recipe for name, recipe in recipes.items() if recipe is not None}:
            content["variants"] = told
        if self.experiment.kind != DEFAULT_KIND:
            content["kind"] = self.experiment.kind
        return content

    @property
    def claims_hash(self) -> str:
        """SHA-256 of the claims. Recorded with every run."""
        return content_hash(identity(self.claims))

    def to_toml(self, header: str) -> str:
        """The frozen file: `header` as comments, then every value, defaults included."""
        comments = "".join(f"# {line}\n" for line in header.splitlines())
        values = self.model_dump(mode="json", exclude_none=True)
        for name in ("axes", "exclude", "variants"):
            if not values[name]:  # empty tables carry no information, and tomli_w writes them above the first table
                del values[name]
        return comments + tomli_w.dumps(values)


def expand_steps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every bare step in the schedules of `raw` by its entry."""
    schedules = {
        label: [step_as_entry(entry) for entry in entries] if isinstance(entries, list) else entries
        for label, entries in get_table(raw, "failures").items()
    }
    return {**raw, "failures": schedules} if schedules else dict(raw)


def get_table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}


def find_differences(old: Matrix, new: Matrix) -> list[str]:
    """One line per value in which two experiments differ: 'key: old -> new'."""
    flat_old, flat_new = _flatten(old.content), _flatten(new.content)
    return [
        f"{key}: {flat_old.get(key, '(absent)')} -> {flat_new.get(key, '(absent)')}"
        for key in sorted({*flat_old, *flat_new})
        if flat_old.get(key) != flat_new.get(key)
    ]


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in content.items():
        result |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return result


DEVICES: tuple[str, ...] = get_args(RunOptions.model_fields["device"].annotation)
