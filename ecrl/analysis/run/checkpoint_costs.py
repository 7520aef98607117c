"""The costs of a run's checkpoints: the time that they block the job, and the latency until each is durable.

Definitions: docs/metrics.md, "Checkpoint costs".
"""

from collections import Counter
from dataclasses import dataclass

from ecrl.analysis.run.timeline import NS_PER_S, Timeline
from ecrl.records.reader import RunRecord


@dataclass(frozen=True)
class CheckpointCosts:
    """The costs of the checkpoints of one run, over all attempts.

    visits: the number of requested checkpoints. stall_s: seconds that checkpoints blocked the job, without
    backpressure_s. backpressure_s: seconds of waiting for a free slot; an interval above the floor has none.
    latencies_s: for each committed checkpoint, seconds from the last rank's release to the commit.
    alone_s: the latencies of checkpoints during which no other checkpoint was in flight.
    """

    visits: int
    stall_s: float
    backpressure_s: float
    latencies_s: tuple[float, ...]
    alone_s: tuple[float, ...]


def checkpoint_costs(record: RunRecord, line: Timeline) -> CheckpointCosts:
    """The costs of a run's checkpoints; all zero or empty if it requested none."""
    released: dict[tuple[int, int], int] = {}
    for attempt, _, event in record.get_events("save"):
        key = attempt, event["s"]
        released[key] = max(released.get(key, 0), event["t"])
    committed = {(attempt, event["s"]): event["t"] for attempt, _, event in record.get_events("committed")}
    flights = [
        (attempt, begin, max(begin, committed[attempt, step]))
        for (attempt, step), begin in released.items()
        if (attempt, step) in committed
    ]
    ledger = line.ledger_s()
    backpressure_s = line.seconds_in(["backpressure"], line.t0, line.t1)
    return CheckpointCosts(
        len(released),
        ledger["snapshot_stall"] + ledger["persist_stall"] - backpressure_s,
        backpressure_s,
        tuple((end - begin) / NS_PER_S for _, begin, end in flights),
        tuple((end - begin) / NS_PER_S for attempt, begin, end in flights if _is_alone(attempt, begin, end, flights)),
    )


def count_vanished(record: RunRecord) -> int:
    """The checkpoints that were neither committed nor reported as lost, and that no failure explains."""
    # A failure finds at most `max_inflight` checkpoints under way, and one more at its release. Rank 0 commits, so
    # nothing of an attempt is under way once it has drained.
    fates = {(a, e["s"]) for kind in ("committed", "persist_failed") for a, _, e in record.get_events(kind)}
    unfinished = {(a, e["s"]) for a, _, e in record.get_events("save")} - fates
    drained = {a for a, rank, _ in record.get_events("drain") if rank == 0}
    left = Counter(attempt for attempt, _ in unfinished)
    most = record.spec["max_inflight"] + 1
    return sum(max(0, n - (0 if attempt in drained else most)) for attempt, n in left.items())


def _is_alone(attempt: int, begin: int, end: int, flights: list[tuple[int, int, int]]) -> bool:
    """Whether no other checkpoint of the attempt was in flight between `begin` and `end`."""
    return sum(a == attempt and b <= end and begin <= e for a, b, e in flights) == 1
