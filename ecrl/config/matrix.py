"""Matrix files: TOML tables, profiles and overrides merged, validated in one pass, and frozen."""

import dataclasses
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

import tomli_w
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    create_model,
    model_validator,
)

from ecrl import plugins
from ecrl.config import failure_schedule as failures
from ecrl.config.failure_schedule import FROZEN, FailureEntry, read_older_files, step_as_entry
from ecrl.config.hashing import NEVER, content_hash, fill_from, identity
from ecrl.config.run import CheckpointSettings, TrainSettings
from ecrl.config.toml_lines import Locator
from ecrl.errors import InvalidMatrixError, did_you_mean, unknown_name
from ecrl.records.schema import CLAIM_METRICS

Loc: TypeAlias = tuple[str | int, ...]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")  # part of folder names and of journal lines
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


_Schedule = Annotated[list[Annotated[FailureEntry, BeforeValidator(step_as_entry)]], Field(min_length=1)]
_ENTRIES: TypeAdapter[list[FailureEntry]] = TypeAdapter(_Schedule)


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
    failures: dict[str, _Schedule] = Field(min_length=1)
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


@dataclass(frozen=True)
class Override:
    """A value given on the command line or in the environment; `source` names the flag or variable."""

    loc: tuple[str, str]
    value: Any
    source: str


def load(
    path: Path,
    *,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    frozen: bool = False,
    existing: "Matrix | None" = None,
) -> Matrix:
    """Read, merge (file < profile < overrides) and validate a matrix.

    frozen: the file is what `to_toml` wrote; its variants may have been narrowed by a flag since its claims
    were written, and the claims stay as they are. Fields that its version did not know are at their legacy values.
    existing: the frozen matrix of the prefix that the file is asked for; fields that were added to ecrl since 0.1.0 and
    that the file leaves out are taken from it.

    Raises:
        InvalidMatrixError: unreadable, not TOML, or with problems; all of them are in the message.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except FileNotFoundError:
        shipped = sorted(str(p) for p in Path("matrices").glob("*.toml"))
        hint = f" There are: {', '.join(shipped)}" if shipped else ""
        raise InvalidMatrixError(
            f"{path}: no such matrix file.{did_you_mean(str(path), shipped)}{hint}\n"
            f"Name one that is there; see what is: ls {shlex.quote(str(path.parent))}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMatrixError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidMatrixError(f"{path}: not valid TOML: {error}. Correct that place and run again.") from None

    sources = _Sources(path, Locator(text), profile)
    problems: list[str] = []
    profiles = raw.pop("profiles", {})
    if not isinstance(profiles, Mapping) or not all(isinstance(table, Mapping) for table in profiles.values()):
        problems.append(f"{sources.name(('profiles',))}: profiles: expected tables, e.g. [profiles.small]")
    elif profile is not None:
        if profile in profiles:
            raw = _merge(raw, profiles[profile])
        else:
            none = f"found {profile!r}, but the file has no [profiles.*]"
            problems.append(f"--profile: {unknown_name('profile', profile, profiles) if profiles else none}")
    for override in overrides:
        if override.loc == ("matrix", "failures"):  # picks schedules by name; it cannot invent one
            raw["failures"] = _pick_schedules(raw.get("failures", {}), override, problems)
            continue
        raw = _merge(raw, {override.loc[0]: {override.loc[1]: override.value}})
        sources.overridden[override.loc] = override.source
    if existing is not None:
        raw = fill_from(existing, _expand_steps(raw))
    context = {FROZEN: frozen}
    problems += _find_shape_problems(raw, sources, context) + _find_schedule_problems(raw, sources)
    if not frozen and ("matrix", "variants") not in sources.overridden:
        problems += _find_claim_problems(raw, sources)
    if problems:
        again = f"Correct {'it' if len(problems) == 1 else 'them'} and run the same command again; nothing was started."
        raise InvalidMatrixError("\n".join([*problems, again]))
    return Matrix.model_validate(raw, context=context)


@dataclass
class _Sources:
    """Where each value came from, for error messages."""

    path: Path
    locator: Locator
    profile: str | None

    def __post_init__(self) -> None:
        self.overridden: dict[tuple[str, str], str] = {}

    def name(self, loc: Loc) -> str:
        flag = self.overridden.get((str(loc[0]), str(loc[1]))) if len(loc) > 1 else None
        if flag is not None:
            return flag
        line = None
        if self.profile is not None:  # only where the profile itself gives the key
            line = self.locator.line(("profiles", self.profile, *loc), least=2 + min(len(loc), 2))
        line = line or self.locator.line(loc)
        return f"{self.path}:{line}" if line else str(self.path)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: tables are merged key by key, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merge(result[key], value) if both_tables else value
    return result


def _pick_schedules(schedules: Any, override: Override, problems: list[str]) -> Any:
    if not isinstance(schedules, Mapping):
        return schedules  # reported with the other shapes
    unknown = [label for label in override.value if label not in schedules]
    problems += [f"{override.source}: {unknown_name('failure schedule', label, schedules)}" for label in unknown]
    return {label: schedules[label] for label in override.value if label in schedules} or schedules


def _expand_steps(raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with every bare step of a schedule as the entry that it stands for."""
    schedules = {
        label: [step_as_entry(entry) for entry in entries] if isinstance(entries, list) else entries
        for label, entries in _get_table(raw, "failures").items()
    }
    return {**raw, "failures": schedules} if schedules else dict(raw)


def _find_shape_problems(raw: Mapping[str, Any], sources: _Sources, context: Mapping[str, bool]) -> list[str]:
    try:
        Matrix.model_validate(raw, context=context)
    except ValidationError as error:
        return [_explain(e, sources) for e in error.errors(include_url=False)]
    return []


def _explain(error: Any, sources: _Sources) -> str:
    loc: Loc = tuple(part for part in error["loc"] if not str(part).startswith("function-"))
    key = ".".join(map(str, loc))
    where = f"{sources.name(loc)}: {key}"
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{where}: {unknown_name('key', str(loc[-1]), _valid_keys(loc[:-1]))}"
        case "missing":
            return f"{where}: not found, and it has no default"
        case "too_short" if error["input"] in ([], {}):
            return f"{where}: found it empty, expected at least one value"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{where}: found {error['input']!r}, expected a table"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{where}: found {error['input']!r}, expected {expected}"


def _valid_keys(loc: Loc) -> Iterable[str]:
    """The keys of the table at `loc`."""
    if not loc:
        return [*Matrix.model_fields, "profiles"]
    tables: dict[str | int, Any] = {
        "matrix": Axes, "train": TrainTable, "checkpoint": CheckpointTable, "run": RunOptions,
        "claims": Claim, "failures": FailureEntry,
    }  # fmt: skip
    return list(tables[loc[0]].model_fields)


def _find_schedule_problems(raw: Mapping[str, Any], sources: _Sources) -> list[str]:
    """What only two tables together can show. Values of a wrong type are passed over: they are reported already."""
    problems = []
    train, matrix = _get_table(raw, "train"), _get_table(raw, "matrix")
    steps, nproc = _read_int(train.get("steps")), _read_int(train.get("nproc", 1))
    keep = _read_int(_get_table(raw, "checkpoint").get("keep")) or CheckpointSettings().keep
    intervals = matrix.get("checkpoint_every")
    intervals = [e for e in intervals if isinstance(e, int) and e > 0] if isinstance(intervals, list) else []
    for label, entries in _get_table(raw, "failures").items():
        where = f"{sources.name(('failures', label))}: failures.{label}"
        if not _LABEL.fullmatch(label):
            problems.append(f"{where}: found label {label!r}, expected at most 40 letters, digits, '_', '-', '.'")
        told = failures.find_problems(_valid_entries(entries), intervals, steps=steps, nproc=nproc, keep=keep)
        problems += [f"{where}: {problem}" for problem in told]
    problems += [
        f"{sources.name(('matrix', 'checkpoint_every'))}: matrix.checkpoint_every: found {every}, past the last step"
        f" ({steps}): no checkpoint would ever be taken"
        for every in intervals
        if isinstance(steps, int) and every > steps
    ]
    return problems


def _valid_entries(entries: Any) -> list[FailureEntry]:
    """The entries of a schedule, none if one of them is invalid."""
    try:
        return _ENTRIES.validate_python(entries)
    except ValidationError:
        return []


def _read_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _find_claim_problems(raw: Mapping[str, Any], sources: _Sources) -> list[str]:
    """Claims about engines that exist, but that this matrix does not run (an unknown engine is reported already)."""
    variants, claims = _get_table(raw, "matrix").get("variants"), raw.get("claims")
    if not isinstance(variants, list) or not isinstance(claims, list):
        return []
    return [
        f"{sources.name(('claims', i, 'compare'))}: claims.{i}.compare: "
        + unknown_name("variant of this matrix", variant, map(str, variants))
        for i, claim in enumerate(claims)
        if isinstance(claim, Mapping) and isinstance(claim.get("compare"), list)
        for variant in claim["compare"]
        if variant in plugins.names("engine") and variant not in variants
    ]


def _get_table(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
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
