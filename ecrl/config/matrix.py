"""The tables of a matrix file, as pydantic models."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    model_validator,
)

from ecrl import plugins
from ecrl.config.failure_schedule import FailureEntry, read_older_files, step_as_entry
from ecrl.config.hashing import NEVER, content_hash, identity
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.errors import unknown_name
from ecrl.records.columns import CLAIM_METRICS

EXPECT = re.compile(
    r"(?P<what>ratio|difference|rate)\s*(?:(?P<op>>=|<=|>|<)\s*(?P<threshold>[-+]?\d+(?:\.\d+)?)"
    r"|within\s*(?P<margin>\d+(?:\.\d+)?))"
)


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _read_older_files(cls, raw: Any, info: ValidationInfo) -> Any:
        return read_older_files(cls, raw, info)


def _make_member_check(family: str, extra: Sequence[str] = ()) -> AfterValidator:
    def check(name: str) -> str:
        valid = [*extra, *plugins.names(family)]
        if name not in valid:
            raise ValueError(unknown_name(family, name, valid))
        return name

    return AfterValidator(check)


def _check_no_repeats(values: list[Any]) -> list[Any]:
    repeated = sorted({str(v) for v in values if values.count(v) > 1})
    if repeated:
        raise ValueError(f"{', '.join(repeated)} stands there more than once")
    return values


Count = Annotated[int, Field(ge=1)]
DatasetName = Annotated[str, _make_member_check("dataset")]
ModelName = Annotated[str, _make_member_check("model")]
VariantName = Annotated[str, _make_member_check("engine", ["reference"])]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
_AXIS = (Field(min_length=1), AfterValidator(_check_no_repeats))


class Axes(_Table):
    """`[matrix]`: the axes and their values. launchers: takes the place of `train.launcher` where it is given; each
    launcher makes suites of its own, so no block mixes them."""

    datasets: Annotated[list[DatasetName], *_AXIS]
    models: Annotated[list[ModelName], *_AXIS]
    checkpoint_every: Annotated[list[Count], *_AXIS]
    max_inflight: Annotated[list[Count], *_AXIS] = [4]
    seeds: Annotated[list[Seed], *_AXIS] = [1337]
    variants: Annotated[list[VariantName], *_AXIS] = ["reference", "blocking", "overlapped"]
    launchers: Annotated[list[Literal["cold", "warm"]], *_AXIS] | None = None


Schedule = Annotated[list[Annotated[FailureEntry, BeforeValidator(step_as_entry)]], Field(min_length=1)]


def _table_of(settings: type) -> type[_Table]:
    """The strict table whose keys, bounds and defaults are the fields of a settings dataclass."""
    hints = get_type_hints(settings, include_extras=True)
    keys: dict[str, Any] = {
        f.name: (hints[f.name], ... if f.default is dataclasses.MISSING else f.default)
        for f in dataclasses.fields(settings)
    }
    return create_model(settings.__name__, __base__=_Table, **keys)


if TYPE_CHECKING:  # made from the dataclasses below, which a type checker cannot follow

    class TrainTable(_Table):
        """`[train]`, validated."""

    class CheckpointTable(_Table):
        """`[checkpoint]`, validated."""

else:
    TrainTable, CheckpointTable = _table_of(TrainSettings), _table_of(CheckpointSettings)


class RunOptions(_Table):
    """`[run]`: where and how patiently runs are made. Frozen with the matrix so that `resume` needs no flags;
    a difference here is no other experiment (except `device`)."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpus: Annotated[list[Annotated[int, Field(ge=0)]], AfterValidator(_check_no_repeats)] = []
    data_root: str | None = None
    retries: Annotated[int, Field(ge=0)] = 0
    timeout_s: Annotated[float, Field(gt=0)] | None = None
    jobs: Count = 1  # suites that run at once, each on GPUs (or CPU cores) of its own
    aa: bool = False  # repeat the reference in the first block of each suite
    stop_after_same: Annotated[int, Field(ge=0)] = 5  # failures alike in a row that end the use of a set; 0: never


def _check_expectation(text: str) -> str:
    if not EXPECT.fullmatch(text.strip()):
        raise ValueError(f"found {text!r}, expected e.g. 'ratio > 1.00', 'difference < 0.5', 'ratio within 0.02'")
    return text.strip()


def _check_metric(name: str) -> str:
    if name not in CLAIM_METRICS:
        raise ValueError(unknown_name("metric", name, CLAIM_METRICS))
    return name


class Claim(_Table):
    """`[[claims]]`: what is expected of `metric`, written before the first run and judged by the report.

    compare = [A, B]: the claim is about A / B (`ratio`) or A - B (`difference`); `within M` claims that the
    ratio lies in 1 +- M, or the difference in 0 +- M.
    """

    name: Annotated[str, Field(min_length=1)]
    compare: Annotated[list[VariantName], Field(min_length=2, max_length=2)]
    metric: Annotated[str, AfterValidator(_check_metric)] = "goodput_steps_per_s"
    expect: Annotated[str, AfterValidator(_check_expectation)]


class Matrix(_Table):
    """A merged, valid matrix: what `<prefix>_matrix.toml` holds."""

    matrix: Axes
    failures: dict[str, Schedule] = Field(min_length=1)
    train: TrainTable
    checkpoint: CheckpointTable = CheckpointTable()
    run: Annotated[RunOptions, NEVER] = RunOptions()
    claims: list[Claim] = []

    @property
    def train_settings(self) -> TrainSettings:
        """`[train]` as the workers read it."""
        return TrainSettings(**self.train.model_dump())

    @property
    def checkpoint_settings(self) -> CheckpointSettings:
        """`[checkpoint]` as the workers read it."""
        return CheckpointSettings(**self.checkpoint.model_dump())

    @property
    def experiment(self) -> dict[str, Any]:
        """What makes this the experiment it is: all but the options of `[run]`, plus the device."""
        content: dict[str, Any] = identity(self)
        return content | {"device": self.run.device}

    @property
    def claims_hash(self) -> str:
        """SHA-256 of the claims alone, recorded with every run."""
        return content_hash(identity(self.claims))

    def to_toml(self, header: str) -> str:
        """The frozen file: `header` as comments, then every value, defaults included."""
        comments = "".join(f"# {line}\n" for line in header.splitlines())
        return comments + tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def expand_steps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with every bare step of a schedule as the entry that it stands for."""
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
    flat_old, flat_new = _flatten(old.experiment), _flatten(new.experiment)
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
