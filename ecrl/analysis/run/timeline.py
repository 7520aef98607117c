"""The timeline of one run: the states of every rank, and the job's ledger, in which every moment has one state.

Definitions: docs/metrics.md, "The time ledger".
All stamps are nanoseconds of `records.clock`; all ledger values are seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ecrl.analysis.run.step_history import get_executed_steps
from ecrl.records.columns import LEDGER_BUCKETS
from ecrl.records.failure_checks import get_ending_failures
from ecrl.records.reader import Event, RunRecord

NS_PER_S = 1_000_000_000

# state of the job -> bucket of the ledger, the highest state first. If ranks are in different states, the job is in the
# highest of them: one stalled rank stalls a DDP step.
STATES = {
    "startup": "startup",
    "detect": "detect",
    "restart": "restart",
    "restore": "restore",
    "persist_inline": "persist_stall",
    "backpressure": "persist_stall",
    "snapshot_stall": "snapshot_stall",
    "drain": "drain",
    "replay": "replay",
    "compute": "compute",
    "lost_step": "lost_step",
    "shutdown": "shutdown",
}
_PRIORITY = {state: place for place, state in enumerate(STATES)}
_STATE_AT = tuple(STATES)
_LOWEST_STALL = _PRIORITY["snapshot_stall"]


class Span(NamedTuple):
    """A state from t0 to t1 (ns). rank: None for the whole job. step: the step that the state belongs to, if any."""

    state: str
    t0: int
    t1: int
    rank: int | None = None
    attempt: int = 0
    step: int | None = None


@dataclass(frozen=True)
class Outage:
    """The time from the end of one attempt until the next one is ready to load. Stamps are in ns.

    failed_t: the planned failure; None for an unplanned crash. detected_t: the launcher's report of the failure; None
    if there is none. ready_t: the moment at which the last rank was ready to load; None if no rank ever was.
    last_t: the attempt's last event. last_attempt: whether no attempt follows.
    """

    attempt: int
    failed_t: int | None
    detected_t: int | None
    ready_t: int | None
    last_t: int
    last_attempt: bool

    @property
    def down_t(self) -> int:
        """The stamp from which the group counts as down: the launcher's report, the failure, or the last event.

        It is the first of these that is known.
        """
        return next(t for t in (self.detected_t, self.failed_t, self.last_t) if t is not None)


@dataclass(frozen=True)
class Timeline:
    """The timeline of one run, from `spawn` (t0) to `exit` (t1).

    spans: the states of the ranks and of the whole job; they overlap. job: the sweep over `spans`, in order and without
    overlap; its gaps are the residual. persists: background writes, from the snapshot until durable. They have no
    bucket, as they do not block the job.
    """

    t0: int
    t1: int
    spans: tuple[Span, ...]
    job: tuple[Span, ...]
    persists: tuple[Span, ...]
    outages: tuple[Outage, ...]

    @property
    def wall_s(self) -> float:
        """W: seconds from spawning the launcher to the end of the last rank."""
        return (self.t1 - self.t0) / NS_PER_S

    @property
    def detect_known(self) -> bool:
        """Whether the launcher reported every planned failure."""
        return all(o.detected_t is not None for o in self.outages if o.failed_t is not None)

    def ledger_s(self) -> dict[str, float]:
        """Seconds in every bucket of the ledger."""
        return _bucket_seconds(self.job)

    def residual_s(self) -> float:
        """Seconds of wall-clock that no span covers: W - sum(buckets), exact to the nanosecond."""
        return ((self.t1 - self.t0) - sum(span.t1 - span.t0 for span in self.job)) / NS_PER_S

    def rank_ledger_s(self, rank: int) -> dict[str, float]:
        """Seconds in every bucket for one rank: by its own spans and the states of the whole job."""
        own = [span for span in self.spans if span.rank in (rank, None)]
        return _bucket_seconds(sweep(own, self.t0, self.t1))

    def rank_stall_s(self, rank: int) -> float:
        """Seconds for which checkpoints block the training thread of one rank, as in `rank_ledger_s`."""
        own = [s for s in self.spans if s.rank in (rank, None) and _PRIORITY[s.state] <= _LOWEST_STALL]
        ledger = _bucket_seconds(sweep(own, self.t0, self.t1))
        return ledger["snapshot_stall"] + ledger["persist_stall"]

    def seconds_in(self, states: Iterable[str], begin: int, end: int) -> float:
        """Seconds that the job spends in any of `states` between two stamps."""
        wanted = frozenset(states)
        overlap = (min(s.t1, end) - max(s.t0, begin) for s in self.job if s.state in wanted)
        return sum(length for length in overlap if length > 0) / NS_PER_S


def _bucket_seconds(segments: Iterable[Span]) -> dict[str, float]:
    total = dict.fromkeys(LEDGER_BUCKETS, 0)
    for span in segments:
        total[STATES[span.state]] += span.t1 - span.t0
    return {bucket: ns / NS_PER_S for bucket, ns in total.items()}


def sweep(spans: Iterable[Span], t0: int, t1: int) -> tuple[Span, ...]:
    """Segments without overlap between t0 and t1. Each has the highest state present; equal neighbours are merged."""
    edges: list[tuple[int, int, int]] = []
    for span in spans:
        begin, end = max(span.t0, t0), min(span.t1, t1)
        if begin < end:
            place = _PRIORITY[span.state]
            edges += [(begin, place, 1), (end, place, -1)]
    edges.sort()
    held = [0] * len(_STATE_AT)
    present = 0  # bit i: some span has the i-th state
    segments: list[Span] = []
    now = t0
    for t, place, change in edges:
        if t > now:
            if present:
                state = _STATE_AT[(present & -present).bit_length() - 1]  # the lowest bit is the highest state
                if segments and segments[-1].state == state and segments[-1].t1 == now:
                    segments[-1] = segments[-1]._replace(t1=t)
                else:
                    segments.append(Span(state, now, t))
            now = t
        held[place] += change
        if held[place]:
            present |= 1 << place
        else:
            present &= ~(1 << place)
    return tuple(segments)


def timeline(record: RunRecord) -> tuple[Timeline | None, list[str]]:
    """The run's timeline and warnings about it. The timeline is None if wall-clock is not known.

    Raises nothing if the events are valid (see `event_validation`). The timeline of an unfinished or failed run holds
    what its records support.
    """
    warnings: list[str] = []
    bounds = _bounds(record, warnings)
    if bounds is None:
        return None, warnings
    t0, t1 = bounds
    if not record.events:
        warnings.append("no rank left events: all of wall-clock counts as startup")
    outages = _outages(record, t1)
    warnings += [
        f"attempt {o.attempt}: the launcher reported no worker failure after the planned one; detect time is"
        " unknown and counts as restart"
        for o in outages
        if o.failed_t is not None and o.detected_t is None
    ]
    of_ranks = _rank_spans(record)
    spans = (*of_ranks, *_job_spans(record, of_ranks, outages, t0, t1))
    return Timeline(t0, t1, spans, sweep(spans, t0, t1), _persists(record), outages), warnings


def _bounds(record: RunRecord, warnings: list[str]) -> tuple[int, int] | None:
    boots = {str(e["boot_id"]) for _, _, e in record.get_events("start") if "boot_id" in e}
    if len(boots) > 1:
        warnings.append(f"events of {len(boots)} boots: their stamps cannot be subtracted, so there is no ledger")
        return None
    spawned = [e["t"] for e in record.launcher if e["e"] == "spawn"]
    exited = [e["t"] for e in record.launcher if e["e"] == "exit"]
    if not spawned or not exited:
        absent = "spawn" if not spawned else "exit"
        warnings.append(f"events-launcher.jsonl has no {absent!r} event: wall-clock is unknown, so there is no ledger")
        return None
    if exited[-1] <= spawned[-1]:
        wall_s = (exited[-1] - spawned[-1]) / NS_PER_S
        warnings.append(f"wall-clock is {wall_s:g} s, expected more than 0: there is no ledger")
        return None
    return spawned[-1], exited[-1]


def _rank_spans(record: RunRecord) -> list[Span]:
    """The spans of the steps, saves, fences, drains and restores of every rank."""
    spans: list[Span] = []
    failed = _failure_stamps(record)
    highest = 0  # the highest step that an earlier attempt executed; steps up to it are replay
    for attempt in record.attempts:
        recorded: dict[int, set[int]] = {}
        failed_t = failed.get(attempt)
        for (_, rank), events in sorted((k, v) for k, v in record.events.items() if k[0] == attempt):
            for event in events:
                spans += _event_spans(event, rank, attempt, highest)
                if event["e"] == "step":
                    recorded.setdefault(rank, set()).add(event["s"])
            if attempt > 0:
                spans += _restore(events, rank, attempt, failed_t)
        highest = max([highest, *get_executed_steps(record, recorded)])
    return spans


def _event_spans(event: Event, rank: int, attempt: int, highest: int) -> list[Span]:
    match event["e"]:
        case "step":
            state = "replay" if event["s"] <= highest else "compute"
            return [Span(state, event["t0"], event["t"], rank, attempt, event["s"])]
        case "save":
            s = event["s"]
            return [
                Span("backpressure", event["t0"], event["t_slot"], rank, attempt, s),
                Span("snapshot_stall", event["t_slot"], event["t_staged"], rank, attempt, s),
                Span("persist_inline", event["t_staged"], event["t"], rank, attempt, s),
            ]
        case "fence":
            return [Span("snapshot_stall", event["t0"], event["t"], rank, attempt, event.get("s"))]
        case "drain":
            return [Span("drain", event["t0"], event["t"], rank, attempt)]
    return []


def _restore(events: list[Event], rank: int, attempt: int, failed_t: int | None) -> list[Span]:
    """The span from readiness to the first step; without a step, to the end of loading, else to the failure."""
    begin, stepped = _ready_t(events), [e["t0"] for e in events if e["e"] == "step"]
    loaded = [e["t"] for e in events if e["e"] == "restored"]
    end = min(stepped, default=max(loaded, default=failed_t))
    return [] if begin is None or end is None or end < begin else [Span("restore", begin, end, rank, attempt)]


def _ready_t(events: list[Event]) -> int | None:
    ready = [e["t"] for e in events if e["e"] == "ready"]
    return min(ready, default=min((e["t0"] for e in events if e["e"] == "restored"), default=None))


def _outages(record: RunRecord, t1: int) -> tuple[Outage, ...]:
    """One outage for every attempt that failed or was followed by another."""
    reported = sorted(e["t"] for e in record.launcher if e["e"] == "worker_failed")
    attempts, failed, found = record.attempts, _failure_stamps(record), []
    for place, attempt in enumerate(attempts):
        later = attempts[place + 1 :]
        own = _attempt_events(record, attempt)
        failed_t = failed.get(attempt)
        if failed_t is None and not later:
            continue
        since = min((e["t"] for e in own), default=0) if failed_t is None else failed_t
        until = min((e["t"] for a in later[:1] for e in _attempt_events(record, a)), default=t1)
        found.append(
            Outage(
                attempt,
                failed_t,
                next((t for t in reported if since <= t <= until), None),
                next((t for a in later if (t := _all_ready_t(record, a)) is not None), None),
                max((e["t"] for e in own), default=since),
                not later,
            )
        )
    return tuple(found)


def _failure_stamps(record: RunRecord) -> dict[int, int]:
    """The stamp of the first failure that ended each attempt, by attempt. Attempts without one are absent."""
    stamps: dict[int, int] = {}
    for attempt, _, event in get_ending_failures(record):
        stamps[attempt] = min(stamps.get(attempt, event["t"]), event["t"])
    return stamps


def _attempt_events(record: RunRecord, attempt: int) -> list[Event]:
    return [e for (a, _), events in record.events.items() if a == attempt for e in events]


def _all_ready_t(record: RunRecord, attempt: int) -> int | None:
    stamps = [_ready_t(events) for (a, _), events in record.events.items() if a == attempt]
    return max((t for t in stamps if t is not None), default=None)


def _job_spans(record: RunRecord, of_ranks: list[Span], outages: tuple[Outage, ...], t0: int, t1: int) -> list[Span]:
    """The spans of the whole job: startup, detect, restart, lost_step, shutdown."""
    entered = [
        min(stepped)
        for (attempt, _), events in record.events.items()
        if attempt == 0 and (stepped := [e["t0"] for e in events if e["e"] == "step"])
    ]
    never = min((o.down_t for o in outages if o.attempt == 0), default=_first_report(record, t1))
    spans = [Span("startup", t0, max(entered, default=never))]
    for outage in outages:
        if outage.failed_t is not None:
            spans.append(Span("lost_step", _last_end(record, outage), outage.failed_t, None, outage.attempt))
            if outage.detected_t is not None:
                spans.append(Span("detect", outage.failed_t, outage.detected_t, None, outage.attempt))
        if not outage.last_attempt:
            end = t1 if outage.ready_t is None else outage.ready_t
            spans.append(Span("restart", outage.down_t, end, None, outage.attempt))
    last_attempt = max(record.attempts, default=0)
    ends = [span.t1 for span in of_ranks if span.attempt == last_attempt]
    down = [o.down_t for o in outages if o.last_attempt]
    begin = max([*down, *ends], default=spans[0].t1 if last_attempt == 0 else t1)
    return [*spans, Span("shutdown", begin, t1)]


def _first_report(record: RunRecord, t1: int) -> int:
    return min((e["t"] for e in record.launcher if e["e"] == "worker_failed"), default=t1)


def _last_end(record: RunRecord, outage: Outage) -> int:
    """The end of the last step, save, fence or restore that any rank completed before the failure."""
    assert outage.failed_t is not None
    ends = [
        e["t"]
        for e in _attempt_events(record, outage.attempt)
        if e["e"] in ("step", "save", "fence", "restored") and e["t"] <= outage.failed_t
    ]
    return max(ends, default=outage.failed_t)


def _persists(record: RunRecord) -> tuple[Span, ...]:
    return tuple(Span("persist", e["t0"], e["t"], rank, a, e["s"]) for a, rank, e in record.get_events("persisted"))
