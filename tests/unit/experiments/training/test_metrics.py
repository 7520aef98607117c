from dataclasses import replace

import pytest

from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.analysis.run.step_history import build_step_history
from ecrl.analysis.run.timeline import timeline
from ecrl.experiments.training import metrics
from ecrl.experiments.training.metrics import analyse
from ecrl.records.reader import Event, RunRecord
from tests.unit.analysis.campaign_builder import Events, at, final, record, restored, save, span, spec, start, step


def launcher(*failed: float, exit_t: float, code: int = 0) -> list[Event]:
    return [at("spawn", 0), *(at("worker_failed", t) for t in failed), at("exit", exit_t, code=code)]


def reference(ranks: int = 1, digest: str = "end", losses: dict[int, float] | None = None) -> RunAnalysis:
    """4 steps, 10 ms each but the first, which takes 20."""
    run = [
        step(1, 100, 120, (losses or {}).get(1)),
        *(step(s, 100 + 10 * s, 110 + 10 * s, (losses or {}).get(s)) for s in (2, 3, 4)),
    ]
    tail = [final(4, 151, digest), at("end", 152)]
    events: Events = {(0, rank): [*run, *tail] for rank in range(ranks)}
    found = record(spec(variant="reference", failures=(), train={"nproc": ranks}), events, launcher(exit_t=160))
    return analyse(found, None, has_reference=True)


def interrupted(again: float = 1 / 3, digest: str = "end", ids: str = "ids-3", live: str = "same") -> RunRecord:
    """Fails after step 3, restores step 2; step 3 is replayed with loss `again`."""
    first = [
        step(1, 100, 110), step(2, 110, 120), save(2, 120, 120, 130, 140), at("committed", 139, s=2),
        span("persisted", 130, 139, s=2, bytes=7), step(3, 140, 150), at("failure", 150, index=0, at=3, kind="kill"),
    ]  # fmt: skip
    second = [
        at("ready", 200), restored(2, 200, 210, live), step(3, 210, 222, again, ids), step(4, 222, 232),
        save(4, 232, 232, 242, 250), at("committed", 249, s=4), span("drain", 250, 250), final(4, 251, digest),
        at("end", 252),
    ]  # fmt: skip
    return record(spec(), {(0, 0): first, (1, 0): second}, launcher(160, exit_t=260))


def test_a_run_with_one_failure_has_exactly_these_numbers() -> None:
    run = analyse(interrupted(), reference(), has_reference=True)
    row = {k: round(v, 9) if isinstance(v, float) else v for k, v in run.row.items()}
    assert row["outcome"] == "completed"
    assert row["wall_s"] == 0.260
    assert row["goodput_steps_per_s"] == round(4 / 0.260, 9)
    assert row["rel_goodput"] == round((4 / 0.260) / (4 / 0.160), 9)
    assert row["ettr"] == round(0.040 / 0.260, 9)
    assert row["ettr_ref"] == round(4 * 0.010 / 0.260, 9)  # tref leaves the warm-up step out
    assert row["interference_s"] == 0
    assert row["rewarm_s"] == 0.002  # of step 3 after the restart
    assert row["stall_s"] == 0.038
    assert row["wasted_s"] == round(0.010 + 0.040 + 0.010 + 0.012, 9)
    assert (row["restarts"], row["failures_fired"]) == (1, 1)
    assert (row["executed_steps"], row["replayed_steps"]) == (5, 1)
    assert (row["lost_interval_steps"], row["lost_in_flight_steps"]) == (1, 0)
    assert (row["checkpoints_requested"], row["checkpoints_committed"], row["persist_failures"]) == (2, 2, 0)
    assert (row["final_loss"], row["d_end"], row["d_max"], row["d_rms"]) == (0.25, 0, 0, 0)
    assert row["first_divergent_step"] is None
    assert row["replay_agreement"] == 1
    assert [row[f"c{i}"] for i in range(1, 7)] == ["pass"] * 6
    assert row["correct"] is True
    assert run.warnings == ()
    [cost] = run.failures
    assert (cost.index, cost.at, cost.rank, cost.in_flight) == (0, 3, 0, False)
    assert cost.wasted_s == pytest.approx(row["wasted_s"])
    assert (cost.seconds["replay"], cost.seconds["rewarm"]) == pytest.approx((0.010, 0.002))


def test_failures_after_which_the_attempt_goes_on_cost_no_restart_and_hide_no_other() -> None:
    plain, lasting = analyse(interrupted(), reference(), has_reference=True), interrupted()
    scale = {"kind": "scale", "phase": "loss", "ends_attempt": False}
    (kill,) = lasting.spec["failures"]
    lasting.spec["failures"] = [
        {"index": 0, "at": 2, "rank": 0, **scale}, {**kill, "index": 1}, {"index": 2, "at": 4, "rank": 0, **scale},
    ]  # fmt: skip
    first, second = lasting.events[0, 0], lasting.events[1, 0]
    first[-1]["index"] = 1
    first[:1] = [restored(0, 80, 81), first[0], at("failure", 112, index=0, at=2, **scale)]
    second.insert(3, at("failure", 223, index=2, at=4, **scale))
    run = analyse(lasting, reference(), has_reference=True)
    changed = {name for name in run.row if run.row[name] != plain.row[name]}
    assert changed == {"failures_fired", "failure_steps"}
    assert (run.row["failures_fired"], run.row["failure_steps"]) == (3, "2@scale;3;4@scale")
    assert [(cost.index, cost.at, cost.seconds) for cost in run.failures] == [(1, 3, plain.failures[0].seconds)]
    assert run.warnings == ()


def test_a_reference_is_its_own_measure_and_needs_no_comparison() -> None:
    row = reference().row
    assert row["rel_goodput"] == 1
    assert row["interference_s"] == 0  # the warm-up of step 1 is not interference
    assert row["rewarm_s"] == pytest.approx(0.010)
    assert (row["c2"], row["c4"], row["c6"]) == ("not_applicable",) * 3
    assert (row["d_end"], row["stall_s"], row["wasted_s"], row["correct"]) == (None, 0, 0, True)


def test_a_checkpoint_in_flight_is_lost_in_flight_and_not_to_the_interval() -> None:
    found = interrupted()
    found.events[0, 0] = [e for e in found.events[0, 0] if e["e"] not in ("committed", "persisted")]
    found.events[1, 0][1] = restored(0, 200, 210)
    found.events[1, 0][2:2] = [step(1, 210, 210), step(2, 210, 210)]
    run = analyse(found, reference(), has_reference=True)
    assert (run.row["lost_interval_steps"], run.row["lost_in_flight_steps"], run.row["replayed_steps"]) == (1, 2, 3)
    assert run.failures[0].in_flight


def test_only_checkpoints_that_no_failure_explains_have_vanished() -> None:
    found = interrupted()
    found.events[0, 0] = [e for e in found.events[0, 0] if e["e"] not in ("committed", "persisted")]
    assert analyse(found, reference(), has_reference=True).row["checkpoints_vanished"] == 0  # in flight at the kill
    last = found.events[1, 0]
    found.events[1, 0] = [e for e in last if e["e"] != "committed"]
    assert analyse(found, reference(), has_reference=True).row["checkpoints_vanished"] == 1  # the attempt drained
    found.events[1, 0].insert(-1, at("persist_failed", 249, s=4, reason="full"))
    assert analyse(found, reference(), has_reference=True).row["checkpoints_vanished"] == 0
    many = interrupted()
    many.events[0, 0][-1:-1] = [save(10 + s, 149, 149, 149, 149) for s in range(6)]  # max_inflight is 4
    row = analyse(many, reference(), has_reference=True).row
    assert (row["checkpoints_vanished"], row["restores"]) == (1, 1)


def test_replay_counted_twice_must_agree() -> None:
    found = interrupted()
    found.events[1, 0].remove(found.events[1, 0][2])  # restored 2, yet step 3 was never executed again
    run = analyse(found, reference(), has_reference=True)
    assert "replay counted twice disagrees: 0 executions against 1" in run.warnings


def test_a_restart_without_a_restore_leaves_lost_steps_unknown() -> None:
    found = interrupted()
    found.events[1, 0] = [e for e in found.events[1, 0] if e["e"] != "restored"]
    run = analyse(found, reference(), has_reference=True)
    assert (run.row["lost_interval_steps"], run.row["lost_in_flight_steps"], run.row["replayed_steps"]) == (
        None,
        None,
        1,
    )
    assert any("recorded no restore" in text for text in run.warnings)


def test_the_last_execution_of_a_step_is_the_one_that_counts() -> None:
    run = analyse(interrupted(again=0.5), reference(), has_reference=True)
    assert run.row["d_max"] == pytest.approx(0.5 - 1 / 3)
    assert run.row["d_rms"] == pytest.approx((0.5 - 1 / 3) / 2)
    assert (run.row["d_end"], run.row["first_divergent_step"], run.row["replay_agreement"]) == (0, 3, 0)
    assert run.row["correct"] is True  # divergence is a number, correctness is not


def test_loss_is_the_mean_over_ranks_and_one_differing_rank_is_the_first_divergence() -> None:
    found = record(
        spec(failures=(), train={"nproc": 2}),
        {
            (0, rank): [
                *(step(s, 90 + 10 * s, 100 + 10 * s, None if s != 2 or not rank else 0.7) for s in range(1, 5)),
                final(4, 151),
                at("end", 152),
            ]
            for rank in (0, 1)
        },
        launcher(exit_t=160),
    )
    row = analyse(found, reference(ranks=2), has_reference=True).row
    assert row["d_max"] == pytest.approx(0.1)
    assert row["first_divergent_step"] == 2


@pytest.mark.parametrize(
    ("changed", "code"),
    [({"digest": "other"}, "c6"), ({"ids": "wrong"}, "c4"), ({"live": "torn"}, "c2"), ({"again": float("nan")}, "c5")],
)
def test_each_gate_fails_alone_and_makes_the_run_incorrect(changed: dict[str, str], code: str) -> None:
    row = analyse(interrupted(**changed), reference(), has_reference=True).row  # type: ignore[arg-type]
    assert [c for c in ("c1", "c2", "c3", "c4", "c5", "c6") if row[c] == "fail"] == [code]
    assert row["correct"] is False


def test_without_its_reference_run_the_comparing_gates_are_undecided_and_so_is_correctness() -> None:
    row = analyse(interrupted(), None, has_reference=True).row
    assert (row["c4"], row["c6"], row["correct"]) == (None, None, None)
    assert (row["rel_goodput"], row["interference_s"], row["ettr_ref"], row["d_end"]) == (None, None, None, None)


def test_in_a_campaign_without_references_they_do_not_apply() -> None:
    row = analyse(interrupted(), None, has_reference=False).row
    assert (row["c4"], row["c6"], row["correct"]) == ("not_applicable", "not_applicable", True)


def test_c6_does_not_apply_to_training_that_is_not_deterministic() -> None:
    found = interrupted(digest="other")
    found.spec["train"]["deterministic"] = False
    row = analyse(found, reference(), has_reference=True).row
    assert (row["c6"], row["correct"]) == ("not_applicable", True)


def test_a_failed_run_keeps_its_ledger_and_has_no_goodput() -> None:
    found = interrupted()
    found.events.pop((1, 0))
    assert found.result is not None
    found.result["outcome"], found.result["exit_code"] = "failed", 1
    row = analyse(found, reference(), has_reference=True).row
    assert (row["outcome"], row["goodput_steps_per_s"], row["final_loss"]) == ("failed", None, None)
    assert row["compute_s"] == pytest.approx(0.030)
    assert row["c1"] == "fail"


def test_an_unfinished_run_gives_what_it_has() -> None:
    row = analyse(replace(interrupted(), result=None, launcher=[at("spawn", 0)]), reference(), has_reference=True).row
    assert (row["outcome"], row["wall_s"], row["residual_s"], row["replayed_steps"]) == ("unfinished", None, None, 1)


def test_detect_time_that_nobody_recorded_is_empty_and_still_wasted() -> None:
    found = interrupted()
    found.launcher = launcher(exit_t=260)
    row = analyse(found, reference(), has_reference=True).row
    assert row["detect_s"] is None
    assert row["restart_s"] == pytest.approx(0.050)
    assert row["wasted_s"] == pytest.approx(0.072)


def test_losses_that_are_read_later_count_for_their_attempt() -> None:
    found = interrupted()
    for event in found.events[1, 0]:
        if event["e"] == "step":
            event["loss"] = None
    found.events[1, 0] += [at("loss", 251, s=3, loss=1 / 3), at("loss", 251, s=4, loss=0.25)]
    row = analyse(found, reference(), has_reference=True).row
    assert (row["final_loss"], row["replay_agreement"], row["d_max"]) == (0.25, 1, 0)


def test_events_that_cannot_be_are_dropped_by_name() -> None:
    found = interrupted()
    found.events[0, 0] += [
        span("step", 160, 150, s=4, loss=1.0),
        {"e": "save", "t": 1},
        span("step", 1, 2, s=1, loss="x"),
    ]
    warnings = analyse(found, reference(), has_reference=True).warnings
    assert warnings[:3] == (
        "events-0-0.jsonl: a 'step' event was dropped: it ends before it begins",
        "events-0-0.jsonl: a 'save' event was dropped: s is None, expected a whole number",
        "events-0-0.jsonl: a 'step' event was dropped: loss is 'x', expected a number",
    )


@pytest.mark.parametrize(("device", "executed", "in_flight"), [("cpu", 8, 2), ("cuda", 6, 0)])
def test_steps_that_survivors_queued_on_a_gpu_were_not_executed(device: str, executed: int, in_flight: int) -> None:
    """Rank 0 dies after step 3; rank 1 queues two more, and the checkpoint that is due after step 4."""
    own = [step(s, 100 + s, 101 + s) for s in (1, 2, 3)]
    own.insert(2, save(2, 102, 102, 102.5, 103))
    died = [
        start(0),
        restored(0, 1, 2),
        *own,
        at("committed", 103, s=2),
        at("failure", 104, index=0, at=3, kind="kill"),
    ]
    queued = [start(0), restored(0, 1, 2), *own, step(4, 104, 105), save(4, 105, 105, 106, 107), step(5, 107, 108)]
    again = [start(200), restored(2, 201, 202), *(step(s, 200 + s, 201 + s) for s in (3, 4, 5))]
    run = spec(device=device, train={"nproc": 2})
    found = build_step_history(record(run, {(0, 0): died, (0, 1): queued, (1, 0): again, (1, 1): again}, []))
    [rollback] = found.rollbacks
    assert found.executed_steps == executed
    assert found.replayed_steps == found.rolled_back_steps == executed - 5
    assert (rollback.lost_interval_steps, rollback.lost_in_flight_steps) == (1, in_flight)
    line, _ = timeline(
        record(run, {(0, 0): died, (0, 1): queued, (1, 0): again, (1, 1): again}, launcher(150, exit_t=300))
    )
    assert line is not None
    replayed = {span.step for span in line.spans if span.state == "replay"}  # the ledger counts the same ones
    assert len(replayed) == executed - 5


def test_ranks_that_disagree_on_restarts_are_named() -> None:
    found = interrupted()
    found.events[0, 1] = [step(1, 100, 110)]
    assert "ranks disagree on restarts (rank 0: 1, rank 1: 0)" in analyse(found, None, has_reference=True).warnings


def test_checkpoints_that_were_passed_over_or_stay_on_the_disk_are_told_once() -> None:
    passed = [{"step": 2, "reason": "shard-0.safetensors: missing"}]
    odd = [{"step": 2}]
    events = {
        (0, 0): [start(0)],
        (1, 0): [start(10), restored(0, 11, 12) | {"passed_over": passed}, at("remove_failed", 13, s=4, reason="busy")],
        (0, 1): [start(0)],
        (1, 1): [start(10), restored(0, 11, 12) | {"passed_over": passed}, restored(0, 14, 15) | {"passed_over": odd}],
    }
    assert drop_invalid_events(record(spec(), events, [])).warnings == [
        "events-1-1.jsonl: a 'restored' event was dropped: passed_over is no list of steps and reasons",
        "attempt 1: checkpoint 2 was passed over: shard-0.safetensors: missing",
        "attempt 1: there was no checkpoint to restore, and it began again at step 0",
        "attempt 1: checkpoint 4 could not be removed: busy",
    ]


def test_checkpoints_that_could_not_be_kept_are_told_once_a_run_with_the_first_reason() -> None:
    failed = [at("persist_failed", 10 + s, s=s, reason=f"rank {s % 2}: full") for s in (4, 8, 12)]
    both = {(0, 0): [start(0), *failed], (0, 1): [start(0), *failed]}
    assert drop_invalid_events(record(spec(), both, [])).warnings == [
        "attempt 0: checkpoint 4 could not be kept: rank 0: full; and 2 more"
    ]


def test_checkpoints_that_went_elsewhere_are_counted_once_with_their_bytes() -> None:
    moved = at("rerouted", 12, s=4, reason="rank 1: full", to="/b")
    parts = [at("persisted", t, s=4, t0=t - 1, bytes=100) for t in (11, 13)]  # rank 0 wrote its part twice
    both = {(0, 0): [start(0), parts[0], moved, parts[1]], (0, 1): [start(0), moved, parts[1]]}
    found = drop_invalid_events(record(spec(), both, []))
    assert found.warnings == ["attempt 0: checkpoint 4 was written elsewhere: /b (rank 1: full)"]
    assert (metrics._checkpoint_bytes(found), metrics._list_rerouted(found)) == (200, ["/b"])
    broken = drop_invalid_events(record(spec(), {(0, 0): [start(0), at("rerouted", 12, s=4)]}, []))
    assert "reason is missing" in broken.warnings[0]


@pytest.mark.parametrize(("digest", "c2", "correct"), [("end", "not_applicable", True), ("other", None, False)])
def test_an_engine_without_digests_leaves_c2_open_unless_the_final_state_settles_it(
    digest: str, c2: str | None, correct: bool
) -> None:
    found = interrupted(digest=digest)
    for event in found.events[1, 0]:
        if event["e"] == "restored":
            event["digest_recorded"] = None
    row = analyse(found, reference(), has_reference=True).row
    assert (row["c2"], row["correct"]) == (c2, correct)


def test_an_attempt_that_died_while_restoring_lost_no_step() -> None:
    found = interrupted()
    died = [at("ready", 170), at("failure", 175, index=1, at=3, kind="kill", phase="restore")]
    found.events = {(0, 0): found.events[0, 0], (1, 0): died, (2, 0): found.events[1, 0]}
    found.launcher = launcher(160, 180, exit_t=260)
    run = analyse(found, reference(), has_reference=True)
    assert (run.row["restarts"], run.row["replayed_steps"], run.row["lost_interval_steps"]) == (2, 1, 1)
    assert [cost.lost_interval_steps for cost in run.failures] == [1, 0]
    assert not [text for text in run.warnings if "replay" in text or "restore" in text]


def test_a_checkpoint_whose_save_was_cut_short_after_its_commit_is_not_lost() -> None:
    found = interrupted()
    found.events[0, 0] = [e for e in found.events[0, 0] if e["e"] != "save"]  # committed, its save never returned
    row = analyse(found, reference(), has_reference=True).row
    assert (row["lost_interval_steps"], row["lost_in_flight_steps"]) == (1, 0)


def test_samples_are_those_of_all_micro_batches() -> None:
    def samples(**train: int) -> float:
        events = interrupted().events
        run = analyse(record(spec(train=train), events, launcher(160, exit_t=260)), reference(), has_reference=True)
        return float(run.row["goodput_samples_per_s"])

    assert samples() == pytest.approx(4 * 8 / 0.260)
    assert samples(accumulate=3, batch_size=5) == pytest.approx(4 * 3 * 5 / 0.260)


def test_skipped_steps_are_counted_by_their_last_executions_and_remain_steps() -> None:
    found = interrupted()
    assert not any("fp16" in warning for warning in drop_invalid_events(found).warnings)
    for attempt, skipped in ((0, {1, 3}), (1, {4})):  # step 3 is replayed, and taken
        for event in found.events[attempt, 0]:
            if event["e"] == "step" and event["s"] in skipped:
                event["skipped"] = True
    [warning] = [text for text in drop_invalid_events(found).warnings if "fp16" in text]
    assert warning.startswith("2 of 4 steps")
    assert warning.endswith("first at step 1")
    run = analyse(found, reference(), has_reference=True)
    assert warning in run.warnings
    assert run.row["goodput_steps_per_s"] == pytest.approx(4 / 0.260)
