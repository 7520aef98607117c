"""Compute the numbers of a bench of checkpoint engines from its records, and the targets they meet. Pure functions.

All times are in seconds. A checkpoint's stall is the time for which its save, and the fences until the next save, held
up the training thread; of several ranks, the slowest counts. The true cost per checkpoint is the additional wall-clock
time of a segment, including its drain, over the reference segment of its round, divided by the checkpoints.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ecrl.enginebench.plan import MIN_ROUNDS, REFERENCE, BenchPlan
from ecrl.enginebench.targets import Target, pair_rounds
from ecrl.errors import RecordError
from ecrl.records.reader import Event
from ecrl.units import format_bytes

BENCH_DOCUMENT_SCHEMA = 2
OURS, PEER = "overlapped", "dcp-async"
_TARGET_STATE_BYTES = 80_000_000
_S = 1e9  # stamps are nanoseconds


@dataclass(frozen=True)
class BenchTurn:
    """One variant's segment on all ranks. wall_s: steps and drain. stalls_s: one per checkpoint, in order.

    restore_s: None if there was no checkpoint yet. growth_bytes: the peak resident memory minus the resident memory
    before the engine was prepared, on the rank with the largest difference; None if the kernel does not report it.
    """

    round: int
    variant: str
    wall_s: float
    stalls_s: tuple[float, ...]
    drain_s: float
    restore_s: float | None
    written_bytes: tuple[int, ...]
    failed: int
    fsyncs: int
    growth_bytes: int | None


def document(plan: BenchPlan, spec: dict[str, Any], events: dict[int, list[Event]]) -> dict[str, Any]:
    """All results of a bench, as `ecrl bench engines --json` prints them. events: by rank.

    Raises:
        RecordError: a rank's records are incomplete.
    """
    told = _one(events[0], "bench")
    turns = _turns(plan, spec["checkpoint_every"], events)
    floors_s = [ns / _S for found in events.values() for e in found if e["e"] == "segment" for ns in e["floor_ns"]]
    floor_s = median(floors_s)
    engines = [_engine(name, turns, floor_s) for name in plan.variants if name != REFERENCE]
    _compare(engines)
    too_little = explain_insufficient_data(told["state_bytes"], len(plan.order) - 1)
    return {
        "schema": BENCH_DOCUMENT_SCHEMA,
        "model": spec["model"],
        "dataset": spec["dataset"],
        "optimizer": spec["train"]["optimizer"],
        "batch_size": spec["train"]["batch_size"],
        "nproc": spec["train"]["nproc"],
        "device": told["device"],
        "torch": told["torch"],
        "checkpoint_every": spec["checkpoint_every"],
        "max_inflight": spec["max_inflight"],
        "state_bytes": told["state_bytes"],
        "rounds": len(plan.order) - 1,
        "checkpoints_per_round": plan.saves,
        "order_is_balanced": plan.is_balanced,
        "step_s": _step_s(plan, turns, spec["checkpoint_every"]),
        "copy_floor_s": _spread(floors_s),
        "engines": [engine | {"promises": told["promises"][engine["engine"]]} for engine in engines],
        "targets": [one.build_document(judge=too_little is None) for one in _build_targets(turns, floor_s)],
        "notes": [] if too_little is None else [too_little],
    }


def explain_insufficient_data(state_bytes: int, rounds: int) -> str | None:
    """Why the targets do not apply; None if they do."""
    # The targets are for medians of at least five rounds and for states large enough that a copy takes time.
    if state_bytes < _TARGET_STATE_BYTES:
        return f"The targets are for states of {format_bytes(_TARGET_STATE_BYTES)} and more: not judged."
    if rounds < MIN_ROUNDS:
        return f"The targets are for {MIN_ROUNDS} rounds and more: not judged."
    return None


def _build_targets(turns: Sequence[BenchTurn], floor_s: float) -> list[Target]:
    """The targets that one bench can judge."""
    stalls = {name: _stalls_by_round(turns, name) for name in (OURS, PEER)}
    costs = {name: _costs_by_round(turns, name) for name in (OURS, PEER)}
    # the warm-up round has a first stall too
    own = [turn for turn in turns if turn.variant == OURS and len(turn.stalls_s) > 1]
    return [
        Target(f"{OURS}: stall / copy floor", 0.10, [(stall, floor_s) for stall in stalls[OURS].values()]),
        Target(f"{OURS}: stall / {PEER}", 0.02, pair_rounds(stalls[OURS], stalls[PEER])),
        Target(f"{OURS}: true cost / {PEER}", 0.50, pair_rounds(costs[OURS], costs[PEER])),
        Target(f"{OURS}: first stall / later ones", 2.0, [(t.stalls_s[0], median(t.stalls_s[1:])) for t in own]),
    ]


def _stalls_by_round(turns: Sequence[BenchTurn], name: str) -> dict[int, float]:
    """The median stall of every round, the first stall of the segment left out where there are others."""
    return {t.round: median(t.stalls_s[1:] or t.stalls_s) for t in turns if t.variant == name and t.round > 0}


def _costs_by_round(turns: Sequence[BenchTurn], name: str) -> dict[int, float]:
    """The true cost per checkpoint of every round."""
    plain = {turn.round: turn.wall_s for turn in turns if turn.variant == REFERENCE}
    return {
        turn.round: (turn.wall_s - plain[turn.round]) / len(turn.stalls_s)
        for turn in turns
        if turn.variant == name and turn.round > 0
    }


def _turns(plan: BenchPlan, checkpoint_every: int, events: dict[int, list[Event]]) -> list[BenchTurn]:
    of_segment: dict[int, list[list[Event]]] = defaultdict(list)
    for found in events.values():
        by_segment: dict[int, list[Event]] = defaultdict(list)
        for event in found:
            if "segment" in event:
                by_segment[event["segment"]].append(event)
        for index, own in by_segment.items():
            of_segment[index].append(own)
    segments = plan.segments(checkpoint_every)
    if len(of_segment) != len(segments) or any(len(ranks) != len(events) for ranks in of_segment.values()):
        raise RecordError("ECRL-802", f"found records of {len(of_segment)} segments, expected {len(segments)}")
    return [_turn(of_segment[segment.index]) for segment in segments]


def _turn(ranks: list[list[Event]]) -> BenchTurn:
    ends = [_one(events, "segment") for events in ranks]
    drains = [_one(events, "drain") for events in ranks]
    restores = [_one(events, "restored") for events in ranks]
    walls = [end["t_trained"] - end["t0"] + drain["t"] - drain["t0"] for end, drain in zip(ends, drains, strict=True)]
    peaks = [(end["peak_bytes"], end["rss_before_bytes"]) for end in ends]
    return BenchTurn(
        round=ends[0]["round"],
        variant=ends[0]["variant"],
        wall_s=max(walls) / _S,
        stalls_s=_slowest([_stalls(events) for events in ranks]),
        drain_s=max(e["t"] - e["t0"] for e in drains) / _S,
        restore_s=None if restores[0]["step"] == 0 else max(e["t"] - e["t0"] for e in restores) / _S,
        written_bytes=_bytes_written(ranks),
        failed=len({e["s"] for events in ranks for e in events if e["e"] == "persist_failed"}),
        fsyncs=sum(end["fsyncs"] for end in ends),
        growth_bytes=None if any(p is None for p, _ in peaks) else max(peak - before for peak, before in peaks),
    )


def _stalls(events: Iterable[Event]) -> list[int]:
    """The stalls of one rank in nanoseconds, one per checkpoint."""
    stalls: list[int] = []
    for event in events:
        if event["e"] == "save":
            stalls.append(event["t"] - event["t0"])
        elif event["e"] == "fence":
            stalls[-1] += event["t"] - event["t0"]
    return stalls


def _slowest(by_rank: list[list[int]]) -> tuple[float, ...]:
    return tuple(max(stalls) / _S for stalls in zip(*by_rank, strict=True))


def _bytes_written(ranks: list[list[Event]]) -> tuple[int, ...]:
    by_step: dict[int, int] = defaultdict(int)
    for events in ranks:
        for event in events:
            if event["e"] == "persisted":
                by_step[event["s"]] += event["bytes"]
    return tuple(by_step.values())


def _engine(name: str, turns: Sequence[BenchTurn], floor_s: float) -> dict[str, Any]:
    own = [turn for turn in turns if turn.variant == name]
    steady = [turn for turn in own if turn.round > 0]
    plain = {turn.round: turn for turn in turns if turn.variant == REFERENCE}
    saves = len(own[0].stalls_s)
    firsts = [turn.stalls_s[0] for turn in own]
    # A segment with one checkpoint has only a first stall.
    later = [s for turn in steady for s in turn.stalls_s[1:]] or [turn.stalls_s[0] for turn in steady]
    costs = list(_costs_by_round(turns, name).values())
    # The warm-up round counts too: each segment starts with a new engine and an emptied allocator.
    growths = [
        turn.growth_bytes - reference
        for turn in own
        if turn.growth_bytes is not None and (reference := plain[turn.round].growth_bytes) is not None
    ]
    restores = [turn.restore_s for turn in steady if turn.restore_s is not None]
    written = [count for turn in own for count in turn.written_bytes]
    return {
        "engine": name,
        "stall_s": _spread(later),
        "first_stall_s": _spread(firsts),
        "very_first_stall_s": firsts[0],
        "true_cost_s": _spread(costs),
        "drain_s": _spread([turn.drain_s for turn in steady]),
        "restore_s": _spread(restores) if restores else None,
        "written_bytes": median(written) if written else None,
        "memory_growth_bytes": median(growths) if growths else None,
        "fsyncs_per_checkpoint": sum(turn.fsyncs for turn in steady) / (saves * len(steady)),
        "checkpoints_requested": saves * len(own),
        "checkpoints_failed": sum(turn.failed for turn in own),
        "stall_vs_floor_ratio": median(later) / floor_s,
        "first_vs_later_ratio": median(firsts) / median(later),
    }


def _compare(engines: list[dict[str, Any]]) -> None:
    """Add each engine's ratios to the peer; None if the peer was not measured.

    The ratio of the true costs is also None if the peer's true cost is not positive.
    """
    peer = next((e for e in engines if e["engine"] == PEER), None)
    for engine in engines:
        engine["stall_vs_peer_ratio"] = engine["cost_vs_peer_ratio"] = None
        if peer is not None:
            engine["stall_vs_peer_ratio"] = engine["stall_s"]["median"] / peer["stall_s"]["median"]
            if peer["true_cost_s"]["median"] > 0:
                engine["cost_vs_peer_ratio"] = engine["true_cost_s"]["median"] / peer["true_cost_s"]["median"]


def _step_s(plan: BenchPlan, turns: Sequence[BenchTurn], checkpoint_every: int) -> dict[str, Any]:
    steps = plan.saves * checkpoint_every
    return _spread([turn.wall_s / steps for turn in turns if turn.variant == REFERENCE and turn.round > 0])


def _spread(samples: Sequence[float]) -> dict[str, Any]:
    return {"median": median(samples), "min": min(samples), "max": max(samples), "samples": list(samples)}


def _one(events: Iterable[Event], kind: str) -> Event:
    found = next((event for event in events if event["e"] == kind), None)
    if found is None:
        raise RecordError("ECRL-802", f"found no {kind!r} event in the bench's records, expected one")
    return found
