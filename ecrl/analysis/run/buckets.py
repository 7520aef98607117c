"""Values derived from the ledger of a run: the cost of each failure, the seconds of a step, the allowed residual."""

from dataclasses import dataclass

from ecrl.analysis.run.step_history import StepHistory
from ecrl.analysis.run.timeline import Timeline
from ecrl.records.failure_checks import get_ending_failures
from ecrl.records.reader import RunRecord

# The ledger is trusted if its residual is at most this share of wall-clock, or at most this many seconds.
RESIDUAL_SHARE = 0.005
RESIDUAL_FLOOR_S = 0.050

WASTE_BUCKETS = ("detect", "restart", "restore", "lost_step", "replay")


@dataclass(frozen=True)
class FailureCost:
    """The cost of one failure: seconds by bucket, and lost steps (docs/metrics.md, "The cost of a failure")."""

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
        """detect + restart + restore + lost_step + replay."""
        return sum(self.seconds.values())


def residual_allowed_s(wall_s: float) -> float:
    """The allowed residual in seconds: max(0.5 % of wall-clock, 50 ms) (docs/metrics.md, "The time ledger")."""
    return max(RESIDUAL_SHARE * wall_s, RESIDUAL_FLOOR_S)


def steady_step_s(line: Timeline) -> float | None:
    """tref: mean seconds of compute per step, from the second step on; that of the first step if there is no other.

    None if no step was executed.
    """
    # The first step holds the warm-up. The job's sweep is used, not the spans of ranks: so the interference of a
    # reference with itself is its warm-up and nothing else.
    steps = [s for s in line.spans if s.state == "compute" and s.step is not None]
    first = min((s.step for s in steps if s.step is not None), default=None)
    steady = [s for s in steps if s.step != first] or steps
    if not steady:
        return None
    begin = min(s.t0 for s in steady)
    return line.seconds_in(["compute"], begin, line.t1) / len({s.step for s in steady})


def failure_costs(record: RunRecord, own: StepHistory, line: Timeline | None) -> tuple[FailureCost, ...]:
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
        rollback = lost.get(outage.attempt)
        costs.append(
            FailureCost(
                event.get("index"),
                event.get("at"),
                str(event.get("kind", "unplanned")),
                rank,
                {bucket: seconds[bucket] for bucket in WASTE_BUCKETS},
                outage.detected_t is not None,
                rollback.lost_interval_steps if rollback else None,
                rollback.lost_in_flight_steps if rollback else None,
                rollback.in_flight if rollback else False,
            )
        )
    return tuple(costs)
