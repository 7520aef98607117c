"""Values derived from the ledger of a run: the cost of each failure, the seconds of a step, the allowed residual."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ecrl.analysis.run.step_history import StepHistory
from ecrl.analysis.run.timeline import Span, Timeline
from ecrl.records.failure_checks import get_ending_failures
from ecrl.records.reader import RunRecord

# The ledger is trusted if its residual is at most this share of wall-clock, or at most this many seconds.
RESIDUAL_SHARE = 0.005
RESIDUAL_FLOOR_S = 0.050

WASTE_BUCKETS = ("detect", "restart", "restore", "lost_step", "replay")
# What a failure wastes. Buckets, but for the last: the warm-up of the first step after the restart is part of replay or
# of compute. Here `replay` is without it.
WASTE_PARTS = (*WASTE_BUCKETS, "rewarm")


@dataclass(frozen=True)
class FailureCost:
    """The cost of one failure: seconds by part, and lost steps (docs/metrics.md, "The cost of a failure")."""

    index: int | None
    at: int | None
    kind: str
    rank: int | None
    seconds: dict[str, float]
    detect_known: bool
    lost_interval_steps: int | None
    lost_in_flight_steps: int | None
    in_flight: bool

    @property
    def wasted_s(self) -> float:
        """The sum of `WASTE_PARTS`."""
        return sum(self.seconds.values())


def residual_allowed_s(wall_s: float) -> float:
    """The allowed residual in seconds: max(0.5 % of wall-clock, 50 ms) (docs/metrics.md, "The time ledger")."""
    return max(RESIDUAL_SHARE * wall_s, RESIDUAL_FLOOR_S)


@dataclass(frozen=True)
class FirstStep:
    """The first step of an attempt, which carries its warm-up. t0: its begin (ns). state: `compute` or `replay`."""

    attempt: int
    step: int
    t0: int
    state: str
    seconds: float


@dataclass(frozen=True)
class StepTimes:
    """The steps of one run. first: of every attempt. steady_s: mean seconds of the other steps that were not replayed.

    steady_s is that of all steps that were not replayed if there is no other, and None if there is none at all.
    """

    first: tuple[FirstStep, ...]
    steady_s: float | None

    @property
    def first_computed(self) -> tuple[FirstStep, ...]:
        """The first steps that are part of the bucket `compute`."""
        return tuple(first for first in self.first if first.state == "compute")


def build_step_times(line: Timeline) -> StepTimes:
    """The first step of every attempt, and the mean of the others: tref, if the run is a reference."""
    # The job's sweep is used, not the spans of ranks: so the interference of a reference with itself is 0.
    spans = [s for s in line.spans if s.step is not None and s.state in ("compute", "replay")]
    by_attempt: dict[int, list[Span]] = {}
    for span in spans:
        by_attempt.setdefault(span.attempt, []).append(span)
    first = tuple(_find_first(line, attempt, own) for attempt, own in sorted(by_attempt.items()))
    found = StepTimes(first, None)
    computed, compute_s = {s.step for s in spans if s.state == "compute"}, line.ledger_s()["compute"]
    if steady := computed - {one.step for one in found.first_computed}:
        return replace(found, steady_s=(compute_s - sum(one.seconds for one in found.first_computed)) / len(steady))
    return replace(found, steady_s=compute_s / len(computed)) if computed else found


def _find_first(line: Timeline, attempt: int, spans: Sequence[Span]) -> FirstStep:
    step = min(span.step for span in spans if span.step is not None)
    own = [span for span in spans if span.step == step]
    begin = min(span.t0 for span in own)
    end = min((span.t0 for span in spans if span.step != step), default=max(span.t1 for span in own))
    return FirstStep(attempt, step, begin, own[0].state, line.seconds_in([own[0].state], begin, end))


def failure_costs(
    record: RunRecord, own: StepHistory, line: Timeline | None, first: Sequence[FirstStep] = (), step_s: float = 0.0
) -> tuple[FailureCost, ...]:
    """The cost of every failure that ended an attempt. first: of `StepTimes`. step_s: the seconds of a steady step."""
    struck = {a: (r, e) for a, r, e in reversed(get_ending_failures(record))}  # the first of an attempt stays
    lost = {rollback.attempt: rollback for rollback in own.rollbacks}
    outages = line.outages if line else ()
    costs = []
    for place, outage in enumerate(outages):
        assert line is not None
        rank, event = struck.get(outage.attempt, (None, {}))
        begin = outage.down_t if outage.failed_t is None else outage.failed_t
        following = outages[place + 1 : place + 2]
        end = next((o.down_t if o.failed_t is None else o.failed_t for o in following), line.t1)
        seconds = {b: line.seconds_in([b], begin, end) for b in WASTE_BUCKETS if b != "lost_step"}
        before = outages[place - 1].down_t if place else line.t0
        seconds["lost_step"] = line.seconds_in(["lost_step"], before, begin)
        after = [one for one in first if one.attempt and begin <= one.t0 < end]
        seconds["rewarm"] = sum(one.seconds - step_s for one in after)
        seconds["replay"] -= sum(one.seconds - step_s for one in after if one.state == "replay")
        rollback = lost.get(outage.attempt)
        costs.append(
            FailureCost(
                event.get("index"),
                event.get("at"),
                str(event.get("kind", "unplanned")),
                rank,
                {part: seconds[part] for part in WASTE_PARTS},
                outage.detected_t is not None,
                rollback.lost_interval_steps if rollback else None,
                rollback.lost_in_flight_steps if rollback else None,
                rollback.in_flight if rollback else False,
            )
        )
    return tuple(costs)
