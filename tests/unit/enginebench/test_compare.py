"""A bench's numbers from events whose times are known."""

from typing import Any

import pytest

from ecrl.enginebench.compare import document
from ecrl.enginebench.plan import BenchPlan, Segment
from ecrl.enginebench.report import build_target_table, summarize, tables
from ecrl.enginebench.targets import Target
from ecrl.records.reader import Event
from tests.errors import raises

MS = 1_000_000
ENGINES = ("overlapped", "dcp-async")
PLAN = BenchPlan.make_balanced(ENGINES, rounds=None, saves=2)
SPEC = {
    "model": "resnet18",
    "dataset": "noise",
    "checkpoint_every": 5,
    "max_inflight": 2,
    "train": {"optimizer": "sgd", "batch_size": 4, "nproc": 2},
}
# by variant, ms: what two saves cost the thread that trains, a whole segment's steps, its drain
STALLS = {"reference": (), "overlapped": (3, 1), "dcp-async": (90, 60)}
STEPS = {"reference": 1000, "overlapped": 1010, "dcp-async": 1200}
DRAINS = {"reference": 0, "overlapped": 10, "dcp-async": 0}
GROWTH = {"reference": 10, "overlapped": 210, "dcp-async": 110}


def rank_events(rank: int) -> list[Event]:
    promises = {name: {"durable": True, "verified": True, "exact": True} for name in ENGINES}
    events: list[Event] = [
        {"e": "bench", "t": 0, "device": "cpu", "torch": "2", "state_bytes": 90_000_000, "promises": promises}
    ]
    for segment in PLAN.segments(5):
        events += segment_events(segment, rank)
    return events


def segment_events(segment: Segment, rank: int) -> list[Event]:
    name, begun = segment.variant, segment.index * 10_000 * MS
    events: list[Event] = [{"e": "restored", "t": 50 * MS, "t0": 10 * MS * rank, "step": segment.round}]
    for number, stall in enumerate(STALLS[name]):
        t0, s = begun + number * 100 * MS, segment.begin + 1 + 5 * number
        slow = stall * MS - rank * MS // 2  # rank 0 is the slower one
        fence = MS // 4  # half a stall's part is a fence
        events.append({"e": "save", "t": t0 + slow - fence, "t0": t0, "s": s})
        events.append({"e": "fence", "t": t0 + 9 * MS + fence, "t0": t0 + 9 * MS, "s": s})
        events.append({"e": "persisted", "t": t0, "t0": t0, "s": s, "bytes": 45_000_000})
    trained = begun + STEPS[name] * MS
    events.append({"e": "drain", "t": trained + 3 * MS + DRAINS[name] * MS, "t0": trained + 3 * MS})
    ended: dict[str, Any] = {
        "t0": begun, "t_trained": trained, "round": segment.round, "variant": name, "fsyncs": len(STALLS[name]) * 4,
        "rss_before_bytes": 1000, "peak_bytes": 1000 + GROWTH[name], "floor_ns": [20 * MS, 20 * MS],
    }  # fmt: skip
    events.append({"e": "segment", "t": trained + 20 * MS, **ended})
    return [event | {"segment": segment.index} for event in events]


@pytest.fixture
def found() -> dict[str, Any]:
    return document(PLAN, SPEC, {rank: rank_events(rank) for rank in range(2)})


def engine(found: dict[str, Any], name: str) -> dict[str, Any]:
    one: dict[str, Any] = next(e for e in found["engines"] if e["engine"] == name)
    return one


def test_a_stall_is_the_save_and_its_fences_on_the_slowest_rank(found: dict[str, Any]) -> None:
    ours = engine(found, "overlapped")
    assert ours["stall_s"]["median"] == pytest.approx(0.001)
    assert ours["first_stall_s"]["median"] == pytest.approx(0.003)
    assert len(ours["first_stall_s"]["samples"]) == 1 + found["rounds"]  # the warm-up has a first one, too
    assert len(ours["stall_s"]["samples"]) == found["rounds"]


def test_the_true_cost_is_the_longer_wall_clock_drain_included_by_checkpoint(found: dict[str, Any]) -> None:
    assert engine(found, "overlapped")["true_cost_s"]["median"] == pytest.approx((1.020 - 1.0) / 2)
    assert engine(found, "dcp-async")["true_cost_s"]["median"] == pytest.approx(0.1)
    assert found["step_s"]["median"] == pytest.approx(0.1)


def test_one_sentence_says_which_engine_costs_least_and_whether_the_rounds_agree(found: dict[str, Any]) -> None:
    rounds = found["rounds"]
    assert summarize(found) == (
        "overlapped costs the training least: 10 ms a checkpoint, dcp-async 100 ms, and less in"
        f" {rounds} of {rounds} rounds."
    )
    other = engine(found, "dcp-async")["true_cost_s"]
    torn = {"engines": [engine(found, "overlapped"), {"engine": "x", "true_cost_s": other | {"samples": [0] * rounds}}]}
    assert summarize(torn).endswith(f"less in 0 of {rounds} rounds: no difference is shown.")
    assert "no other engine" in summarize({"engines": [engine(found, "overlapped")]})
    assert summarize({"engines": []}) == "No engine was measured."
    assert "Targets" not in [title for title, _, _ in tables(found)]
    assert build_target_table(found)[2]


def test_bytes_and_fsyncs_are_summed_over_ranks_and_memory_is_above_the_reference(found: dict[str, Any]) -> None:
    ours = engine(found, "overlapped")
    assert ours["written_bytes"] == 90_000_000
    assert ours["fsyncs_per_checkpoint"] == 8
    assert ours["memory_growth_bytes"] == 200
    assert ours["restore_s"]["median"] == pytest.approx(0.050)
    assert ours["checkpoints_failed"] == 0


def test_targets_are_met_or_missed_by_ratio(found: dict[str, Any]) -> None:
    assert found["copy_floor_s"]["median"] == pytest.approx(0.020)
    assert [(t["target"], round(t["found"], 4), t["verdict"]) for t in found["targets"]] == [
        ("overlapped: stall / copy floor", 0.05, "met"),
        ("overlapped: stall / dcp-async", 0.0167, "met"),
        ("overlapped: true cost / dcp-async", 0.1, "met"),
        ("overlapped: first stall / later ones", 3.0, "MISSED"),
    ]


def test_a_target_is_met_where_its_whole_interval_lies_below_the_limit() -> None:
    """The true cost of the README's bench ranged from -81 to 494 ms: its median alone met nothing."""
    near = Target("near", 0.5, [(0.4, 1.0), (0.45, 1.0), (0.42, 1.0), (0.6, 1.0), (0.7, 1.0), (0.44, 1.0)])
    assert near.found == pytest.approx(0.445)
    found = near.build_document(judge=True)
    assert found["verdict"] == "undecided"
    assert found["interval"][0] < 0.5 < found["interval"][1]
    clear = Target("clear", 0.5, [(0.2 + i / 100, 1.0) for i in range(6)]).build_document(judge=True)
    assert (clear["verdict"], clear["interval"][1]) == ("met", pytest.approx(0.245))
    wild = Target("wild", 0.5, [(0.01, -0.08), (0.02, 0.5), (0.01, 0.3), (-0.02, -0.1), (0.03, 0.4)])
    assert wild.interval is not None
    assert wild.interval[1] is None, "the peer's cost may be 0"
    assert wild.build_document(judge=True)["verdict"] == "undecided"
    none = Target("none", 0.5, [(0.01, -0.08)]).build_document(judge=True)
    assert (none["found"], none["interval"], none["verdict"]) == (None, None, "not judged")


def test_what_slows_a_round_down_slows_both_of_its_engines() -> None:
    paired = Target("paired", 1.0, [(0.5 * slow, slow) for slow in (1.0, 5.0, 2.0, 9.0, 3.0)])
    assert paired.interval == (0.5, 0.5)


def test_a_small_state_is_not_judged() -> None:
    events = {rank: rank_events(rank) for rank in range(2)}
    for found in events.values():
        found[0]["state_bytes"] = 1_000_000
    judged = document(PLAN, SPEC, events)
    assert {t["verdict"] for t in judged["targets"]} == {"not judged"}
    assert "states of 80.0 MB and more" in judged["notes"][0]


def test_records_that_end_early_are_refused() -> None:
    events = {rank: [e for e in rank_events(rank) if e.get("segment") != 5] for rank in range(2)}
    with raises("ECRL-802", "segments"):
        document(PLAN, SPEC, events)
