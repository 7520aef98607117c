"""Failure schedules: what a matrix may say about failures, and the plan it becomes before anything is launched.

400                                           rank 0, 1, ... in turn, right after step 400
{ at = 425, kind = "kill", rank = 1 }         that rank
{ at = 425, ranks = "all" }                   the whole group at once; ranks = [0, 2]: those
{ at = 900, phase = "persist", rank = 0 }     while the checkpoint of the first boundary >= 900 is persisted;
                                              also staging, commit, retention (the latter two: rank 0)
{ phase = "restore" }, { phase = "init" }     in the attempt that follows the failure before it
{ interval = 8, seed = 3 }                    uniformly inside the interval that follows checkpoint 8
{ mtbf_s = 600, seed = 7, count = 3 }         exponential gaps; alone in its schedule
"""

import itertools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from ecrl import plugins
from ecrl.config.hashing import fill_legacy
from ecrl.errors import unknown_name
from ecrl.records.failure_checks import CHECKPOINT_PHASES, PHASES, RESTART_PHASES

DEFAULT_COUNT = 3  # failures drawn for an mtbf_s that does not say how many
_RANK_0_ALONE = ("commit", "retention")
FROZEN = "frozen"  # key of a validation's context: the file was written by ecrl, maybe by an older one


def read_older_files(table: type[BaseModel], raw: Any, info: ValidationInfo) -> Any:
    """`raw` as `table` is to read it: of a file that ecrl wrote, absent later fields are at their legacy values."""
    written_by_ecrl = (info.context or {}).get(FROZEN, False)
    return fill_legacy(table, raw) if written_by_ecrl and isinstance(raw, Mapping) else raw


def _one_of(what: str, valid: Sequence[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in valid:
            raise ValueError(unknown_name(what, name, valid))
        return name

    return AfterValidator(check)


def _group(value: Any) -> Any:
    several = isinstance(value, list) and len(value) > 1 and len(value) == len(set(map(repr, value)))
    if value == "all" or (several and all(type(rank) is int and rank >= 0 for rank in value)):
        return value
    raise ValueError(f"found {value!r}, expected 'all' or a list of at least two ranks, e.g. [0, 1]")


class FailureEntry(BaseModel):
    """One entry of a schedule: `kind` strikes `rank` in `phase`.

    A rank that is not given alternates with the failure's place in the schedule, so that a schedule of two
    hits both the rank that publishes commits (0) and one that does not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    at: Annotated[int, Field(ge=1)] | None = None
    phase: Annotated[str, _one_of("phase", PHASES)] = "step"
    interval: Annotated[int, Field(ge=0)] | None = None
    mtbf_s: Annotated[float, Field(gt=0)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    count: Annotated[int, Field(ge=1, le=1000)] | None = None
    kind: Annotated[str, _one_of("failure kind", plugins.names("failure kind"))] = "kill"
    rank: Annotated[int, Field(ge=0)] | None = None
    ranks: Annotated[Any, AfterValidator(_group)] = None

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
                    f"found {given[0]} with phase = {self.phase!r}, expected none: it strikes in the attempt that"
                    " follows the failure before it"
                )
        elif len(given) != 1:
            found = " and ".join(given) or "none of them"
            faults.append(f"found {found}, expected one of at, interval and mtbf_s")
        if drawn and self.seed is None:
            faults.append("found no seed, expected one: what is drawn must be drawn again alike")
        if drawn and self.phase not in ("step", *RESTART_PHASES):
            faults.append(f"found phase = {self.phase!r} with {given[0]}, expected no phase: it strikes after a step")
        if self.seed is not None and not drawn:
            faults.append("found seed without interval or mtbf_s, expected nothing to be drawn")
        if self.count is not None and self.mtbf_s is None:
            faults.append("found count without mtbf_s, expected one entry for each failure")
        return faults

    def _find_rank_faults(self) -> list[str]:
        faults = []
        if self.rank is not None and self.ranks is not None:
            faults.append("found rank and ranks, expected one of them")
        first = min(self.ranks) if isinstance(self.ranks, list) else self.rank
        if self.phase in _RANK_0_ALONE and first not in (None, 0):
            faults.append(
                f"found rank = {first} with phase = {self.phase!r}, expected rank 0, which alone publishes and"
                " removes checkpoints"
            )
        return faults

    def get_step(self, every: int) -> int:
        """The step of a failure that has one; for a checkpoint's phases the step of that checkpoint."""
        if self.interval is not None:
            assert self.seed is not None
            return draw_step(self.interval, every, self.seed)
        assert self.at is not None
        return -(-self.at // every) * every if self.phase in CHECKPOINT_PHASES else self.at

    def build_victim(self, index: int, nproc: int) -> dict[str, Any]:
        """`rank` (where several are struck: the one that strikes for all) and then `ranks`."""
        if self.ranks == "all":
            return {"rank": 0, "ranks": self.ranks}
        if self.ranks is not None:
            return {"rank": min(self.ranks), "ranks": sorted(self.ranks)}
        if self.phase in _RANK_0_ALONE:
            return {"rank": 0}
        return {"rank": index % nproc if self.rank is None else self.rank}


def step_as_entry(value: Any) -> Any:
    """A bare integer is a kill right after that step."""
    return {"at": value} if isinstance(value, int) and not isinstance(value, bool) else value


def draw_step(interval: int, every: int, seed: int) -> int:
    """m*k + U{1..k-1} (docs/metrics.md, "Replay and lost work"), m = interval, k = every > 1.

    The share of the interval is drawn from (seed, interval) alone, so that suites which differ in
    checkpoint_every are struck at the same share of theirs, and all variants and seeds of a suite at one step.
    """
    share = random.Random(f"interval/{seed}/{interval}").random()
    return interval * every + 1 + int(share * (every - 1))


def draw_instants_s(mtbf_s: float, seed: int, count: int) -> list[float]:
    """Seconds since the run's first step began: sums of `count` exponential gaps of mean mtbf_s, to the millisecond."""
    rng = random.Random(f"mtbf/{seed}")
    gaps = (rng.expovariate(1 / mtbf_s) for _ in range(count))
    return [round(instant, 3) for instant in itertools.accumulate(gaps)]


def build_plan(entries: Sequence[FailureEntry], nproc: int, every: int) -> tuple[dict[str, Any], ...]:
    """The failures of a schedule as `run.json` holds them, with nothing left to decide (records/failure_checks.py)."""
    planned: list[dict[str, Any]] = []
    for entry in entries:
        index = len(planned)
        when: list[dict[str, Any]]
        if entry.mtbf_s is not None:
            assert entry.seed is not None
            instants = draw_instants_s(entry.mtbf_s, entry.seed, entry.count or DEFAULT_COUNT)
            when = [{"after_s": after_s} for after_s in instants]
        elif entry.phase in RESTART_PHASES:
            when = [{"at": planned[-1]["at"]}]
        else:
            when = [{"at": entry.get_step(every)}]
        phase = {} if entry.phase == "step" else {"phase": entry.phase}
        for place, found in enumerate(when, start=index):
            planned.append({"index": place, **found, **phase, "kind": entry.kind} | entry.build_victim(place, nproc))
    return tuple(planned)


def find_problems(
    entries: Sequence[FailureEntry], intervals: Sequence[int], *, steps: int | None, nproc: int | None, keep: int
) -> list[str]:
    """What makes a schedule of valid entries one that cannot be run. None: not known, reported elsewhere."""
    found = []
    if entries and entries[0].phase in RESTART_PHASES:
        found.append(f"found phase = {entries[0].phase!r} first, expected a failure before it: it strikes in a restart")
    if len(entries) > 1 and any(entry.mtbf_s is not None for entry in entries):
        found.append("found mtbf_s beside other failures, expected it alone in its schedule: its order is not known")
    plain = Counter(e.at for e in entries if e.at is not None and e.phase == "step")
    found += [f"found step {at} twice, expected each step once" for at, count in plain.items() if count > 1]
    named = [entry.ranks if isinstance(entry.ranks, list) else [entry.rank] for entry in entries]
    found += [
        f"found rank {rank}, expected a rank below nproc = {nproc}"
        for rank in itertools.chain(*named)
        if nproc is not None and rank is not None and rank >= nproc
    ]
    for every in intervals:
        found += _find_unreachable(entries, every, steps, keep)
    return list(dict.fromkeys(found))


def _find_unreachable(entries: Sequence[FailureEntry], every: int, steps: int | None, keep: int) -> list[str]:
    """Failures that a run with this checkpoint_every would never meet."""
    found = []
    newest, before, met = 0, 0, set[int]()  # newest: the latest step that the restart before may go on from
    for entry in entries:
        if entry.phase in RESTART_PHASES or entry.mtbf_s is not None:
            continue
        if entry.interval is not None and every == 1:
            found.append(f"found interval = {entry.interval} with checkpoint_every = 1: nothing lies inside one step")
            continue
        at, in_checkpoint = entry.get_step(every), entry.phase in CHECKPOINT_PHASES
        if steps is not None and at > steps:
            of = f" (checkpoint_every = {every})" if in_checkpoint or entry.interval is not None else ""
            found.append(f"found a failure at step {at}{of}, past the last step ({steps})")
            continue
        if entry.phase == "retention" and at <= keep * every:
            found.append(
                f"found retention at step {at}: with checkpoint_every = {every} and keep = {keep} nothing is removed"
                f" before step {(keep + 1) * every}"
            )
        if newest >= at and (in_checkpoint or at not in met):
            found.append(
                f"found step {at} after a failure at {before}: with checkpoint_every = {every} the run goes on from"
                f" step {newest}, and would never meet it"
            )
        met.add(at)
        before = at
        # a checkpoint whose staging, persist or commit was struck is none
        newest = max(newest, at - every if in_checkpoint and entry.phase != "retention" else at // every * every)
    return found
