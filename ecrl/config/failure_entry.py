"""An entry of a failure schedule: all that a matrix may say about one planned failure.

400                                           rank 0, 1, ... in turn, right after step 400
{ at = 425, kind = "kill", rank = 1 }         that rank
{ at = 425, ranks = "all" }                   the whole group at once; ranks = [0, 2]: those
{ at = 900, phase = "persist", rank = 0 }     while the checkpoint of the first boundary >= 900 is persisted;
                                              also staging, commit, retention (the latter two: rank 0)
{ phase = "restore" }, { phase = "init" }     in the attempt that follows the failure before it
{ interval = 8, seed = 3 }                    uniformly inside the interval that follows checkpoint 8
{ mtbf_s = 600, seed = 7, count = 3 }         exponential gaps; alone in its schedule
{ at = 300, kind = "X", factor = 3 }          with what the kind lets be said of it (its options), in a phase of its own
"""

import itertools
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SerializeAsAny,
    ValidationInfo,
    create_model,
    model_validator,
)

from ecrl import plugins
from ecrl.config.hashing import Later, fill_legacy
from ecrl.config.options import get_declared_options, get_legacy_options, validate_options
from ecrl.errors import unknown_name
from ecrl.records.failure_checks import CHECKPOINT_PHASES, IN_STEP_PHASES, PHASES, RESTART_PHASES

FAMILY = "failure kind"
DEFAULT_KIND = "kill"
_LONGEST_MTBF_S = 1e9  # 30 years; sums of drawn gaps stay finite
_RANK_0_ALONE = ("commit", "retention")
FROZEN = "frozen"  # key of a validation's context: ecrl wrote the file, perhaps an older version


def read_older_files(table: type[BaseModel], raw: Any, info: ValidationInfo) -> Any:
    """Prepare `raw` for `table`: in a file that ecrl wrote, missing later fields get their legacy values."""
    written_by_ecrl = (info.context or {}).get(FROZEN, False)
    return fill_legacy(table, raw) if written_by_ecrl and isinstance(raw, Mapping) else raw


def _check_phase(valid: Sequence[str]) -> AfterValidator:
    def check(phase: str) -> str:
        if phase not in valid:
            raise ValueError(unknown_name("phase", phase, valid))
        return phase

    return AfterValidator(check)


def _check_kind(name: str) -> str:
    if name not in plugins.names(FAMILY):
        raise ValueError(unknown_name(FAMILY, name, plugins.names(FAMILY)))
    return name


def _group(value: Any) -> Any:
    several = isinstance(value, list) and len(value) > 1 and len(value) == len(set(map(repr, value)))
    if value == "all" or (several and all(type(rank) is int and rank >= 0 for rank in value)):
        return value
    raise ValueError(f"found {value!r}, expected 'all' or a list of at least two ranks, e.g. [0, 1]")


class FailureEntry(BaseModel):
    """One entry of a schedule: `kind` strikes `rank` in `phase`. `get_entry_table` adds the options of a kind.

    Without `rank` and `ranks`, commit and retention strike rank 0; other phases strike the rank given by the failure's
    index in the schedule modulo nproc.
    """

    # Two failures thus strike both rank 0, which publishes commits, and a rank that does not.

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    decided_by: ClassVar[str] = "kind"

    at: Annotated[int, Field(ge=1)] | None = None
    """the step; for a checkpoint phase, the first checkpoint at or after that step"""
    phase: Annotated[str, _check_phase(PHASES)] = "step"
    """the phase of the step, the checkpoint or the restart; each kind has its own default and choices"""
    interval: Annotated[int, Field(ge=0)] | None = None
    """instead of `at`: a step drawn uniformly inside the interval after this checkpoint"""
    mtbf_s: Annotated[float, Field(gt=0, le=_LONGEST_MTBF_S)] | None = None
    """instead of `at`: times drawn with exponential gaps of this mean; the only entry of its schedule"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """the seed of the draw of `interval` or `mtbf_s`"""
    count: Annotated[int, Field(ge=1, le=1000)] | None = None
    """number of failures that `mtbf_s` draws; 3 by default"""
    kind: Annotated[str, AfterValidator(_check_kind)] = DEFAULT_KIND
    """the kind of failure"""
    rank: Annotated[int, Field(ge=0)] | None = None
    """the rank that fails; by default, ranks take turns"""
    ranks: Annotated[Any, AfterValidator(_group)] = None
    """instead of `rank`: "all", or a list of at least two ranks that fail at once"""

    @model_validator(mode="before")
    @classmethod
    def _read_older_files(cls, raw: Any, info: ValidationInfo) -> Any:
        return read_older_files(cls, raw, info)

    @model_validator(mode="after")
    def _check_one_form(self) -> "FailureEntry":
        if faults := [*self._find_time_faults(), *self._find_rank_faults()]:
            raise ValueError("; ".join(faults))
        return self

    def _find_time_faults(self) -> list[str]:
        given = [name for name in ("at", "interval", "mtbf_s") if getattr(self, name) is not None]
        drawn = self.interval is not None or self.mtbf_s is not None
        faults = []
        if self.phase in RESTART_PHASES:
            if given:
                faults.append(
                    f"found {given[0]} with phase = {self.phase!r}, expected no {given[0]}: this failure strikes in the"
                    " attempt after the previous failure"
                )
        elif len(given) != 1:
            faults.append(f"found {' and '.join(given) or 'none'}, expected one of at, interval and mtbf_s")
        if drawn and self.seed is None:
            faults.append("found no seed, expected one: the draw must be repeatable")
        if self.mtbf_s is not None and self.phase in IN_STEP_PHASES:
            faults.append(
                f"found mtbf_s with phase = {self.phase!r}, expected at or interval: this failure strikes in a step"
            )
        elif drawn and self.phase not in ("step", *IN_STEP_PHASES, *RESTART_PHASES):
            faults.append(f"found phase = {self.phase!r} with {given[0]}, expected no phase: the draw is of a step")
        if self.seed is not None and not drawn:
            faults.append("found seed without interval or mtbf_s, expected no seed: nothing is drawn")
        if self.count is not None and self.mtbf_s is None:
            faults.append("found count without mtbf_s, expected one entry for each failure")
        return faults

    def _find_rank_faults(self) -> list[str]:
        faults = []
        if self.ranks is not None and self.phase in IN_STEP_PHASES:
            faults.append(f"found ranks with phase = {self.phase!r}, expected rank: ranks do not reach a step together")
        if self.rank is not None and self.ranks is not None:
            faults.append("found rank and ranks, expected one of them")
        first = min(self.ranks) if isinstance(self.ranks, list) else self.rank
        if self.phase in _RANK_0_ALONE and first not in (None, 0):
            faults.append(
                f"found rank = {first} with phase = {self.phase!r}, expected rank 0, which alone publishes and"
                " removes checkpoints"
            )
        return faults

    @property
    def ends_attempt(self) -> bool:
        """Whether the worker group must restart after this failure."""
        return bool(plugins.declared(FAMILY, self.kind)["ends_attempt"])

    def get_options(self) -> dict[str, Any]:
        """The kind's options whose values differ from the legacy values."""
        legacy = get_legacy_options(FAMILY, self.kind)
        return {option: value for option in legacy if (value := getattr(self, option)) != legacy[option]}

    def get_step(self, every: int) -> int:
        """The step of a failure with `at` or `interval`. In a checkpoint phase: the step of that checkpoint."""
        if self.interval is not None:
            assert self.seed is not None
            return draw_step(self.interval, every, self.seed)
        assert self.at is not None
        return -(-self.at // every) * every if self.phase in CHECKPOINT_PHASES else self.at

    def build_victim(self, index: int, nproc: int) -> dict[str, Any]:
        """The keys `rank` and, if several ranks are struck, `ranks`. `rank` is then the one that strikes for all."""
        if self.ranks == "all":
            return {"rank": 0, "ranks": self.ranks}
        if self.ranks is not None:
            return {"rank": min(self.ranks), "ranks": sorted(self.ranks)}
        if self.phase in _RANK_0_ALONE:
            return {"rank": 0}
        return {"rank": index % nproc if self.rank is None else self.rank}


@cache
def get_entry_table(kind: str) -> type[FailureEntry]:
    """The table for entries of this kind: accepts only the kind's phases and adds the kind's options."""
    phases = plugins.declared(FAMILY, kind)["phases"]
    keys: dict[str, Any] = {"phase": (Annotated[str, _check_phase(phases)], phases[0])}
    for option, told in get_declared_options(FAMILY, kind).items():
        annotated = Annotated[Any, Later(legacy=told["legacy"]), _check_option(kind, option)]
        keys[option] = (annotated, told["default"])
    return create_model(FailureEntry.__name__, __base__=FailureEntry, **keys)


def get_key_meanings(table: type[FailureEntry]) -> dict[str, str]:
    """The keys of an entry's table, each with its meaning; '' for the options of a kind."""
    told = FailureEntry.model_fields
    return {name: (told[name].description or "") if name in told else "" for name in table.model_fields}


def _check_option(kind: str, option: str) -> AfterValidator:
    def check(value: Any) -> Any:
        resolved, problems = validate_options(FAMILY, kind, {option: value})
        if problems:
            raise ValueError(problems[option])
        return resolved[option]

    return AfterValidator(check)


def find_entry_table(raw: Any) -> type[FailureEntry]:
    """The table that validates an entry as read from a file. For an unknown kind: `FailureEntry`."""
    kind = raw.get("kind", DEFAULT_KIND) if isinstance(raw, Mapping) else DEFAULT_KIND
    known = isinstance(kind, str) and kind in plugins.names(FAMILY)
    return get_entry_table(kind) if known else FailureEntry  # its validation reports the unknown kind


def _read_entry(raw: Any, info: ValidationInfo) -> FailureEntry:
    if isinstance(raw, FailureEntry):
        return raw
    raw = step_as_entry(raw)
    return find_entry_table(raw).model_validate(raw, context=info.context)


# Validated and serialized with the table of its kind, which includes the kind's options.
Entry = Annotated[SerializeAsAny[FailureEntry], PlainValidator(_read_entry)]


def step_as_entry(value: Any) -> Any:
    """Turn a bare integer into an entry: a kill right after that step. Other values are returned unchanged."""
    return {"at": value} if isinstance(value, int) and not isinstance(value, bool) else value


def draw_step(interval: int, every: int, seed: int) -> int:
    """m*k + U{1..k-1} (docs/metrics.md, "Replay and lost work"), m = interval, k = every > 1.

    The share of the interval depends only on (seed, interval).
    """
    # Suites that differ in checkpoint_every are struck at the same share of their interval, and all variants and
    # training seeds of a suite at the same step.
    share = random.Random(f"interval/{seed}/{interval}").random()
    return interval * every + 1 + int(share * (every - 1))


def draw_instants_s(mtbf_s: float, seed: int, count: int) -> list[float]:
    """`count` instants in seconds since the run's first step began, with exponential gaps of mean mtbf_s.

    Rounded to milliseconds.
    """
    rng = random.Random(f"mtbf/{seed}")
    gaps = (rng.expovariate(1 / mtbf_s) for _ in range(count))
    return [round(instant, 3) for instant in itertools.accumulate(gaps)]
