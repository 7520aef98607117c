from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.timeline import STATES, Span, sweep, timeline
from ecrl.records.reader import Event, RunRecord
from tests.unit.analysis.campaign_builder import MS, Events, at, record, restored, save, span, spec, start, step

SPAWN, EXIT = at("spawn", 0), at("exit", 1000, code=0)


def ledger(found: RunRecord) -> tuple[dict[str, float], float, list[str]]:
    line, warnings = timeline(drop_invalid_events(found))
    assert line is not None
    filled = {bucket: round(seconds, 9) for bucket, seconds in line.ledger_s().items() if seconds}
    assert sum(line.ledger_s().values()) + line.residual_s() == pytest.approx(line.wall_s, abs=1e-12)
    return filled, round(line.residual_s(), 9), warnings


def one_failure() -> tuple[Events, list[Event]]:
    """Steps of 10 ms from 100 ms on; a save after step 2; struck 3 ms after step 3; step 2 restored."""
    first = [
        start(10), at("ready", 80), restored(0, 81, 82), step(1, 100, 110), step(2, 111, 120),
        save(2, 120, 125, 130, 150), step(3, 150, 160), at("failure", 163, index=0, at=3, kind="kill"),
    ]  # fmt: skip
    second = [
        start(220), at("ready", 300), restored(2, 301, 330), step(3, 340, 350), step(4, 350, 360),
        span("drain", 360, 390), at("end", 391),
    ]  # fmt: skip
    launcher = [SPAWN, at("worker_failed", 200, local_rank=0, exitcode=-9), at("exit", 400, code=0)]
    return {(0, 0): first, (1, 0): second}, launcher


def test_a_run_with_one_failure_has_exactly_these_seconds() -> None:
    filled, residual, warnings = ledger(record(spec(), *one_failure()))
    assert filled == {
        "startup": 0.100, "compute": 0.039, "replay": 0.010, "lost_step": 0.003, "snapshot_stall": 0.005,
        "persist_stall": 0.025, "detect": 0.037, "restart": 0.100, "restore": 0.040, "drain": 0.030, "shutdown": 0.010,
    }  # fmt: skip
    assert residual == 0.001  # between step 1 and step 2
    assert warnings == []


def test_a_failure_nobody_reported_counts_as_restart_until_ready() -> None:
    events, launcher = one_failure()
    filled, residual, warnings = ledger(record(spec(), events, [e for e in launcher if e["e"] != "worker_failed"]))
    assert "detect" not in filled
    assert filled["restart"] == 0.137
    assert residual == 0.001
    assert warnings == [
        "attempt 0: the launcher reported no worker failure after the planned one; detect time is unknown and counts"
        " as restart"
    ]


def test_of_two_ranks_the_stalled_one_decides_and_buckets_never_add_up_twice() -> None:
    fast = [at("ready", 80), step(1, 100, 110), save(2, 110, 110, 112, 120), step(2, 120, 130), span("drain", 130, 140)]
    slow = [at("ready", 90), step(1, 105, 110), save(2, 110, 110, 130, 140), step(2, 140, 150), span("drain", 150, 155)]
    found = record(
        spec(train={"nproc": 2}, failures=()), {(0, 0): fast, (0, 1): slow}, [SPAWN, at("exit", 160, code=0)]
    )
    filled, residual, _ = ledger(found)
    assert filled == {
        "startup": 0.105,
        "compute": 0.015,
        # persisting ranks above copying: rank 0 copies to 112, persists to 120; rank 1 copies to 130, persists to 140
        "snapshot_stall": 0.012,
        "persist_stall": 0.018,
        "drain": 0.005,
        "shutdown": 0.005,
    }
    assert residual == 0
    line, _ = timeline(found)
    assert line is not None
    assert line.rank_ledger_s(0)["persist_stall"] == pytest.approx(0.008)
    assert line.rank_ledger_s(1)["snapshot_stall"] == pytest.approx(0.020)
    assert [line.rank_stall_s(rank) for rank in (0, 1)] == pytest.approx([0.010, 0.030])


def test_a_failure_before_the_first_checkpoint_replays_from_the_start() -> None:
    first = [at("ready", 80), step(1, 100, 110), at("failure", 110, index=0, at=1, kind="kill")]
    second = [at("ready", 200), restored(0, 201, 202), step(1, 210, 220), step(2, 220, 240)]
    launcher = [SPAWN, at("worker_failed", 120), at("exit", 250, code=0)]
    filled, residual, _ = ledger(record(spec(), {(0, 0): first, (1, 0): second}, launcher))
    assert filled == {
        "startup": 0.100, "compute": 0.030, "replay": 0.010, "detect": 0.010, "restart": 0.080, "restore": 0.010,
        "shutdown": 0.010,
    }  # fmt: skip
    assert residual == 0


def test_a_failure_during_replay_keeps_steps_below_the_high_water_mark_as_replay() -> None:
    def attempt(ready: float, begin: float, steps: range, r: int) -> list[Event]:
        ran = [step(s, begin + 10 * i, begin + 10 * i + 10) for i, s in enumerate(steps)]
        return [at("ready", ready), restored(r, ready, ready + 5), *ran]

    events = {
        (0, 0): [*attempt(80, 100, range(1, 5), 0), at("failure", 140, index=0, at=4, kind="kill")],
        (1, 0): [*attempt(200, 210, range(2, 4), 1), at("failure", 230, index=1, at=3, kind="kill")],
        (2, 0): attempt(300, 320, range(2, 7), 1),
    }
    launcher = [SPAWN, at("worker_failed", 150), at("worker_failed", 250), at("exit", 380, code=0)]
    filled, residual, _ = ledger(record(spec(train={"steps": 6}), events, launcher))
    assert filled["replay"] == 0.020 + 0.030  # 2, 3 and again 2, 3, 4
    assert filled["compute"] == 0.040 + 0.020  # 1 to 4, 5 and 6
    assert filled["detect"] == 0.010 + 0.020
    assert filled["restart"] == 0.050 + 0.050
    assert filled["restore"] == 0.010 + 0.020
    assert residual == 0


def test_a_survivors_late_step_end_is_not_counted_beside_detect() -> None:
    victim = [at("ready", 80), step(1, 100, 110), at("failure", 111, index=0, at=1, kind="kill")]
    survivor = [at("ready", 80), step(1, 100, 115)]
    launcher = [SPAWN, at("worker_failed", 130), at("exit", 140, code=1)]
    filled, _, _ = ledger(record(spec(train={"nproc": 2}), {(0, 0): victim, (0, 1): survivor}, launcher, "failed"))
    assert filled == {"startup": 0.100, "compute": 0.011, "detect": 0.019, "shutdown": 0.010}


def test_an_attempt_that_never_became_ready_is_restart_until_the_next_one_is() -> None:
    events, launcher = one_failure()
    events = {(0, 0): events[0, 0], (1, 0): [start(210)], (2, 0): events[1, 0]}
    filled, _, _ = ledger(record(spec(), events, launcher))
    assert filled["restart"] == 0.100


def test_a_restored_last_step_restores_until_it_is_loaded() -> None:
    first = [
        at("ready", 80),
        step(1, 100, 110),
        save(1, 110, 110, 110, 120),
        at("failure", 120, index=0, at=1, kind="kill"),
    ]
    second = [at("ready", 200), restored(1, 201, 220), span("drain", 220, 221), at("end", 222)]
    launcher = [SPAWN, at("worker_failed", 130), at("exit", 230, code=0)]
    filled, residual, _ = ledger(record(spec(train={"steps": 1}), {(0, 0): first, (1, 0): second}, launcher))
    assert filled["restore"] == 0.020
    assert filled["shutdown"] == 0.009
    assert residual == 0


def test_a_run_that_never_stepped_is_all_startup_and_shutdown() -> None:
    launcher = [SPAWN, at("worker_failed", 400), EXIT]
    filled, residual, _ = ledger(record(spec(), {(0, 0): [start(10), at("error", 399, type="X")]}, launcher, "failed"))
    assert filled == {"startup": 0.400, "shutdown": 0.600}
    assert residual == 0


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ([], "no 'spawn' event"),
        ([SPAWN], "no 'exit' event"),
        ([SPAWN, at("exit", 0)], "wall-clock is 0 s"),
        ([at("spawn", 5), at("exit", 1)], "wall-clock is -0.004 s"),
    ],
)
def test_without_a_wall_clock_there_is_no_ledger_and_the_reason_is_named(launcher: list[Event], words: str) -> None:
    line, warnings = timeline(record(spec(), {}, launcher, None))
    assert line is None
    assert words in warnings[0]


def test_stamps_of_two_boots_are_never_subtracted() -> None:
    events = {(0, 0): [start(1)], (1, 0): [start(2, boot_id="other")]}
    line, warnings = timeline(record(spec(), events, [SPAWN, EXIT]))
    assert line is None
    assert "2 boots" in warnings[0]


def test_a_fence_inside_a_step_is_stall_and_not_compute() -> None:
    events: Events = {(0, 0): [step(1, 100, 120), span("fence", 105, 109, s=1, name="update")]}
    filled, _, _ = ledger(record(spec(failures=()), events, [SPAWN, at("exit", 130, code=0)]))
    assert filled == {"startup": 0.100, "compute": 0.016, "snapshot_stall": 0.004, "shutdown": 0.010}


def test_the_sweep_takes_the_highest_state_merges_neighbours_and_leaves_gaps() -> None:
    spans = [Span("compute", 0, 10, 0), Span("compute", 10, 20, 1), Span("drain", 5, 7), Span("replay", 30, 99)]
    assert sweep(spans, 2, 40) == (
        Span("compute", 2, 5), Span("drain", 5, 7), Span("compute", 7, 20), Span("replay", 30, 40),
    )  # fmt: skip
    assert MS == 1_000_000


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(STATES)), st.integers(0, 100), st.integers(0, 100), st.integers(0, 3)),
        max_size=30,
    )
)
def test_a_sweep_partitions_whatever_it_is_given(drawn: list[tuple[str, int, int, int]]) -> None:
    spans = [Span(state, min(a, b), max(a, b), rank) for state, a, b, rank in drawn]
    job = sweep(spans, 10, 90)
    assert all(one.t0 < one.t1 for one in job)
    assert all(one.t1 <= following.t0 for one, following in pairwise(job))
    for instant in range(10, 90):
        present = [s.state for s in spans if s.t0 <= instant < s.t1]
        expected = min(present, key=list(STATES).index, default=None)
        assert next((s.state for s in job if s.t0 <= instant < s.t1), None) == expected


def test_a_failure_while_restoring_is_restore_until_it_strikes() -> None:
    events, launcher = one_failure()
    died = [start(201), at("ready", 210), at("failure", 215, index=1, at=3, kind="kill", phase="restore")]
    events = {(0, 0): events[0, 0], (1, 0): died, (2, 0): events[1, 0]}
    launcher = [*launcher[:2], at("worker_failed", 218), launcher[-1]]
    filled, residual, _ = ledger(record(spec(), events, launcher))
    assert filled["restore"] == 0.045
    assert filled["restart"] == 0.092
    assert filled["detect"] == 0.040
    assert residual == 0.001
