import math
from dataclasses import replace
from pathlib import Path

import pytest

from ecrl.analysis.advice.advise import advise
from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.advice.goodput_model import compute_lost_s, compute_mean_errors, compute_working_s, predictions
from ecrl.analysis.advice.interval import FLAT_LOSS, ettr
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.experiments.training.metrics import analyse
from ecrl.records.reader import RunRecord
from ecrl.report.pages.advice import _steps_between, document, plot, sentences, tables
from tests.unit.analysis.campaign_builder import Events, at, campaign, record, save, span, spec, start, step, warmed


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunAnalysis, ...]:
    """One workload, three seeds: steps of 100 to 104 ms, a visit of 40 ms (blocking) or 2 ms (overlapped) every 4
    steps, restarts of 300 + 1110 + 90 ms (detect, restart, restore)."""
    return load_campaign(campaign(tmp_path_factory.mktemp("results"), datasets=["cifar10"])).runs


def hand_written() -> RunRecord:
    """Three checkpoints of one rank: 2 and 4 in flight together, 6 alone; 5 ms of waiting for a slot at 4."""
    run = spec(train={"steps": 6}, failures=(), variant="overlapped")
    events: Events = {
        (0, 0): [
            start(0), *(step(s, 100 * s, 100 * s + 60) for s in range(1, 7)),
            save(2, 260, 260, 263, 264), save(4, 460, 465, 468, 470), save(6, 660, 660, 663, 664),
            at("committed", 500, s=2), at("committed", 520, s=4), at("committed", 700, s=6),
            span("drain", 664, 700),
        ]
    }  # fmt: skip
    return record(run, events, [at("spawn", 0), at("exit", 710)])


def test_the_stall_leaves_out_waiting_for_a_slot_and_latency_begins_at_the_release() -> None:
    found = analyse(hand_written(), None, has_reference=False).checkpoints
    assert found is not None
    assert found.visits == 3
    assert found.stall_s == pytest.approx(0.004 + 0.005 + 0.004)
    assert found.backpressure_s == pytest.approx(0.005)
    assert found.latencies_s == pytest.approx((0.236, 0.050, 0.036))
    assert found.alone_s == pytest.approx((0.036,))


def test_costs_are_means_over_the_runs_of_a_workload(runs: tuple[RunAnalysis, ...]) -> None:
    blocking, overlapped = sorted(engine_costs(runs), key=lambda c: c.engine)
    assert [c.engine for c in (blocking, overlapped)] == ["blocking", "overlapped"]
    assert (blocking.runs, blocking.checkpoints, blocking.failures, blocking.intervals) == (3, 9, 3, (4,))
    assert blocking.stall_s == pytest.approx(0.040)
    assert overlapped.stall_s == pytest.approx(0.002)
    assert blocking.restart_s == pytest.approx(0.3 + 1.11 + 0.09, abs=0.02)
    assert 0.100 <= blocking.step_s <= 0.104
    assert blocking.persist_s == pytest.approx(0.001)  # committed 1 ms after the visit


def test_advice_takes_the_stall_and_puts_the_better_engine_first(runs: tuple[RunAnalysis, ...]) -> None:
    best, other = advise(runs, 3600)
    assert (best.costs.engine, other.costs.engine) == ("overlapped", "blocking")
    for one in (best, other):
        assert one.young_s == pytest.approx((2 * one.costs.cost_s * 3600) ** 0.5)
        assert one.every == round(one.young_s / one.costs.step_s)
        assert one.goodput_steps_per_s == pytest.approx(one.ettr / one.costs.step_s)
        assert one.band[0] < one.every < one.band[1]
        assert all(ettr <= one.ettr + 1e-3 for _, ettr in one.curve)
        assert one.ettr_at(one.band[0]) >= one.ettr - FLAT_LOSS
        assert one.ettr_at(one.band[0] - 1) < one.ettr - FLAT_LOSS


def test_nodes_in_series_share_the_mtbf_and_a_given_restart_replaces_the_measured(
    runs: tuple[RunAnalysis, ...],
) -> None:
    assert advise(runs, 36000, nodes=10)[0].mtbf_s == 3600
    slow = advise(runs, 3600, restart_s=360)[0]
    assert slow.restart_s == 360
    quick = advise(runs, 3600)[0]
    assert slow.ettr == pytest.approx(quick.ettr * math.exp((quick.restart_s - 360) / 3600))


def test_an_interval_below_the_floor_is_never_advised(runs: tuple[RunAnalysis, ...]) -> None:
    for one in advise(runs, 1):
        assert one.every >= one.floor_steps
        assert one.band[0] >= one.floor_steps
        assert any("MTBF" in note for note in one.notes)


def test_a_campaign_that_measured_too_little_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EcrlError, match="no completed run that took a checkpoint"):
        advise((), 3600)

    def unharmed(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return None if run.failures else found

    only = load_campaign(campaign(tmp_path, change=unharmed, datasets=["cifar10"]))
    with pytest.raises(EcrlError, match="no completed run"):
        advise(only.runs, 3600)
    one = analyse(hand_written(), None, has_reference=False)
    one.row["correct"] = None  # nothing recorded the end of this run
    with pytest.raises(EcrlError, match="--restart 30s"):
        advise([one], 3600)
    [advice] = advise([one], 3600, restart_s=10)
    assert any("interference is unknown" in note for note in advice.notes)
    assert any("step time is the engine's own" in note for note in advice.notes)


def test_lost_work_reaches_back_to_the_newest_checkpoint_that_was_durable(runs: tuple[RunAnalysis, ...]) -> None:
    quick = replace(engine_costs(runs)[0], step_s=1.0, persist_s=0.0)
    slow = replace(quick, persist_s=2.5)
    assert [compute_lost_s(at, 10, quick) for at in (20, 25, 29, 3)] == [0, 5, 9, 3]
    assert [compute_lost_s(at, 10, slow) for at in (20, 22, 23, 29, 1, None)] == [10, 12, 3, 9, 1, 7.5]


def test_the_complete_model_is_worked_back_from_a_number_of_failures(runs: tuple[RunAnalysis, ...]) -> None:
    costs = replace(engine_costs(runs)[0], stall_s=1.0, interference_s=0.0, persist_s=2.0, restart_s=20.0)
    assert compute_working_s(1000, 50, 0, costs) == pytest.approx(1020)
    found = compute_working_s(1000, 50, 4, costs)
    assert found == pytest.approx(1000 / ettr(50, 1, 2, found / 4, 20))
    assert found == pytest.approx(1020 + 4 * (20 + 2 + 51 / 2), rel=0.02)  # first order
    assert compute_working_s(10, 5, 40, costs) < 40 * 20  # failures strike restarts, which do not run to their end


def test_a_prediction_from_exact_costs_is_the_measured_goodput(runs: tuple[RunAnalysis, ...]) -> None:
    found = predictions(runs, {})
    assert {one.variant for one in found} == {"blocking", "overlapped"}
    for one in found:
        assert one.runs == 3
        assert one.planned == pytest.approx(one.measured, rel=0.05)
        assert one.anywhere == pytest.approx(one.measured, rel=0.15)  # a restart takes half of this run
        assert one.pccheck > 0
    errors = compute_mean_errors(found)
    assert errors["blocking"] == pytest.approx(sum(one.error for one in found if one.variant == "blocking"))
    assert predictions(runs, {(run.row["suite_id"], run.row["seed"]): "dropped" for run in runs}) == []


def slowed(runs: tuple[RunAnalysis, ...], engine: str, *interference_s: float) -> list[RunAnalysis]:
    """The runs, each seed's of an engine slowed by its own seconds."""
    by_seed = dict(zip((1, 2, 3), interference_s, strict=True))
    return [
        replace(run, row=run.row | {"interference_s": by_seed[run.row["seed"]]})
        if run.row["variant"] == engine
        else run
        for run in runs
    ]


def test_both_ends_of_an_uncertain_interference_are_charged(runs: tuple[RunAnalysis, ...]) -> None:
    noisy = {a.costs.engine: a for a in advise(slowed(runs, "blocking", -3.0, 8.0, 4.0), 3600)}["blocking"]
    assert noisy.costs.interference_s == pytest.approx(1.0)  # nine checkpoints
    assert noisy.costs.cost_s == pytest.approx(1.040)
    low, high = noisy.costs.interference_ci_s
    assert low is not None
    assert high is not None
    assert low < 0 < high
    assert noisy.costs.cost_range_s == pytest.approx((0.040, 0.040 + high))  # a negative end counts as 0
    root = (0.04 / 1.04) ** 0.5
    assert noisy.by_cost[0] == pytest.approx(noisy.every * root, rel=0.02)
    assert noisy.by_mtbf == pytest.approx((noisy.every / 2**0.5, noisy.every * 2**0.5), rel=0.02)
    assert noisy.range == pytest.approx((noisy.by_cost[0] / 2**0.5, noisy.by_cost[1] * 2**0.5), rel=0.02)
    assert any("interference not told from 0 (95 % interval" in note for note in noisy.notes)
    clear = {a.costs.engine: a for a in advise(slowed(runs, "blocking", 2.9, 3.0, 3.1), 3600)}["blocking"]
    assert clear.costs.cost_s == pytest.approx(1.040)
    assert clear.costs.cost_range_s[0] > 0.9
    assert not any("interference" in note for note in clear.notes)
    nothing = {a.costs.engine: a for a in advise(slowed(runs, "blocking", -3.0, 2.0, -4.0), 3600)}["blocking"]
    assert nothing.costs.cost_s == pytest.approx(0.040)
    assert nothing.costs.cost_range_s[1] > 0.040
    faster = {a.costs.engine: a for a in advise(slowed(runs, "blocking", -2.9, -3.0, -3.1), 3600)}["blocking"]
    assert faster.costs.cost_range_s == pytest.approx((0.040, 0.040))
    assert any("steps were faster than the reference's" in note for note in faster.notes)


def test_the_advice_says_what_would_change_it(runs: tuple[RunAnalysis, ...]) -> None:
    noisy = slowed(runs, "overlapped", -3.0, 8.0, 4.0)
    text = "\n".join(sentences(advise([run for run in noisy if run.row["variant"] != "blocking"], 3600)))
    assert "(stall + interference) of 2.0 ms to " in text
    changed = text.partition("What would change the advice: ")[2]
    assert changed.startswith("a checkpoint's cost (stall + interference) of ")
    assert "costs as uncertain as these: overlapped may be better" in "\n".join(sentences(advise(noisy, 3600)))
    calm = "\n".join(sentences(advise(slowed(runs, "overlapped", 0.0, 0.0, 0.0), 36000)))
    assert "What would change the advice: neither, by more than 0.5 points." in calm


def test_the_model_of_two_seeds_is_no_advice(runs: tuple[RunAnalysis, ...]) -> None:
    two = [run for run in runs if run.row["seed"] != 3]
    found = advise(two, 3600)
    [name] = {one.costs.workload.name for one in found}
    assert not any(one.has_enough_runs for one in found)
    assert any(
        line.startswith(f"{name}: too few runs to advise (2 seeds, 3 are needed); the model alone says: overlapped ")
        for line in sentences(found)
    )
    assert "too few runs" not in "\n".join(sentences(advise(runs, 3600)))
    for words in ("optimistic", "no progress", "measured at"):
        assert words not in "\n".join(sentences(advise(two, 1))) + str(tables(found)) + str(document("p", found))


def test_a_range_of_steps_has_two_digits() -> None:
    assert _steps_between((143, 4253)) == "140 to 4,300 steps"
    assert _steps_between((1, 97)) == "1 to 97 steps"


def test_the_loss_is_drawn_on_a_log_axis(runs: tuple[RunAnalysis, ...]) -> None:
    drawn = plot(advise(runs, 3600)).decode()
    assert "expected loss, 1 - ETTR (%)" in drawn
    assert "10^{-1}" in drawn or "10^{0}" in drawn


@pytest.mark.parametrize(("failure", "again"), [("inside = [6]", "replay"), ("edge = [8]", "compute")])
def test_the_warm_up_of_attempts_is_a_cost_of_failures_and_never_of_checkpoints(
    tmp_path: Path, failure: str, again: str
) -> None:
    """300 ms more in the first step of every attempt, whether that step is replayed or not."""
    plain, warm = (
        load_campaign(
            campaign(
                tmp_path,
                f"warm{ms}",
                datasets=["cifar10"],
                failures=failure,
                change=lambda _, found, ms=ms: warmed(found, ms),  # type: ignore[misc]
            )
        ).runs
        for ms in (0, 300)
    )
    for cold, run in zip(plain, warm, strict=True):
        row, own = run.row, run.row["variant"] == "reference"
        assert row["interference_s"] == (0 if own else pytest.approx(cold.row["interference_s"]))
        assert row["rewarm_s"] == pytest.approx(cold.row["rewarm_s"] + (0.3 if own else 0.6))
        assert row["wasted_s"] == pytest.approx(cold.row["wasted_s"] + (0 if own else 0.3))
        assert [cost.wasted_s for cost in run.failures] == ([] if own else [pytest.approx(row["wasted_s"])])
        if not own:
            assert row[f"{again}_s"] > cold.row[f"{again}_s"] + 0.29
    for before, after in zip(engine_costs(plain), engine_costs(warm), strict=True):
        assert after.interference_s == pytest.approx(before.interference_s)
        assert after.interference_ci_s == pytest.approx(before.interference_ci_s)
        assert after.step_s == pytest.approx(before.step_s)
        assert before.restart_s is not None
        assert (after.restart_s, after.fixed_s) == pytest.approx((before.restart_s + 0.3, before.fixed_s + 0.3))
    errors = ([one.error for one in predictions(runs, {})] for runs in (plain, warm))
    assert next(errors) == pytest.approx(next(errors), abs=0.015)  # the same seconds of a longer run


def test_a_restart_is_never_borrowed_from_another_launcher(runs: tuple[RunAnalysis, ...]) -> None:
    warm = [replace(run, row=run.row | {"launcher": "warm"}, failures=()) for run in runs]
    with pytest.raises(EcrlError, match="No failure struck in a run of the launcher warm"):
        advise([*runs, *warm], 3600)
    assert {a.restart_s for a in advise([*runs, *warm], 3600, restart_s=7)} == {7}
    unharmed = [replace(run, failures=()) if run.row["variant"] == "overlapped" else run for run in runs]
    quick = [replace(run, row=run.row | {"launcher": "warm"}) for run in slowed(runs, "blocking", 0.0, 0.0, 0.0)]
    found = {(a.costs.workload.launcher, a.costs.engine): a for a in advise([*unharmed, *quick], 3600)}
    lone = found["cold", "overlapped"]
    assert lone.restart_s == found["cold", "blocking"].restart_s
    assert any("mean of the others under its launcher" in note for note in lone.notes)
