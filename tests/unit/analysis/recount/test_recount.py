"""The second implementation agrees with the first on honest records, and names what differs."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import LoadedCampaign, load_campaign
from ecrl.analysis.recount.recount import METRICS, Recount, recount
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import MS, at, campaign, save, span, start, warmed
from tests.unit.cli.inline import run_inline

pytest.importorskip("duckdb")


def count(paths: CampaignPaths, found: LoadedCampaign | None = None, **changes: Any) -> Recount:
    """Both counts of a campaign; `changes` are made to the row of the first run of overlapped."""
    found = found or load_campaign(paths)
    rows = [dict(run.row) for run in found.runs]
    next(row for row in rows if row["variant"] == "overlapped").update(changes)
    return recount(rows, {run.key: paths.run(*run.key).folder for run in found.runs})


def test_both_counts_agree_on_runs_with_failures_and_replay(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=lambda _, found: warmed(found, 70))
    found = load_campaign(paths)
    assert sum(run.row["replayed_steps"] for run in found.runs) > 0
    counted = count(paths, found)
    assert counted.differences == ()
    assert counted.runs == dict.fromkeys(METRICS, 18)
    assert counted.sentences[0] == "goodput_steps_per_s: 2 of 2 agree in 18 runs"


def test_a_reference_whose_ranks_stall_and_differ_has_the_same_step_time_in_both_counts(tmp_path: Path) -> None:
    def stagger(run: RunSpec, found: RunRecord) -> RunRecord:
        # Rank 1 is later than rank 0, and visits its engine in the middle of a step of rank 0.
        if run.variant == "reference":
            own = found.events[0, 1]
            for event in own:
                event |= {key: event[key] + 7 * MS for key in ("t", "t0") if key in event and event["e"] == "step"}
            third = next(event for event in own if event["e"] == "step" and event["s"] == 3)
            begin = third["t0"] / MS + 20
            own += [save(3, begin, begin + 1, begin + 3, begin + 11), span("fence", begin + 30, begin + 35, s=3)]
        return found

    counted = count(campaign(tmp_path, seeds=(1,), change=stagger))
    assert counted.differences == ()
    assert counted.runs["ettr_ref"] == 6


def test_a_failed_run_a_missing_one_and_one_without_steps_agree(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
        if run.variant == "overlapped" and run.seed == 1:
            return None
        if run.variant == "blocking" and run.seed == 1:
            assert found.result is not None
            found.result["outcome"] = "failed"
        if run.variant == "blocking" and run.seed == 2:
            found.events = {(0, rank): [start(1)] for rank in range(2)}
            found.result = None
        return found

    counted = count(campaign(tmp_path, datasets=["fashion-mini"], change=change))
    assert counted.differences == ()
    assert counted.runs == {"goodput_steps_per_s": 6, "replayed_steps": 8, "ettr_ref": 6}


@pytest.mark.parametrize("has_events", [True, False])
def test_runs_of_which_none_has_a_result_agree(tmp_path: Path, has_events: bool) -> None:
    def change(_run: RunSpec, found: RunRecord) -> RunRecord:
        found.result = None
        if not has_events:
            found.events, found.launcher = {}, []
        return found

    counted = count(campaign(tmp_path, datasets=["fashion-mini"], seeds=(1,), change=change))
    assert counted.differences == ()
    assert counted.runs == {"goodput_steps_per_s": 0, "replayed_steps": 3, "ettr_ref": 0}


def test_a_reference_that_failed_c1_gives_no_ettr_ref_in_either_count(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.variant == "reference" and run.seed == 1:
            found.events[0, 1] = [event for event in found.events[0, 1] if event["e"] != "end"]
        return found

    counted = count(campaign(tmp_path, datasets=["fashion-mini"], change=change))
    assert counted.differences == ()
    assert counted.runs["ettr_ref"] == 7  # two of the block with the faulty reference have none


def test_a_run_over_two_boots_has_no_goodput_in_either_count(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.variant == "overlapped":
            found.events[1, 0] = [start(2000, boot_id="another"), *found.events[1, 0][1:]]
        return found

    assert count(campaign(tmp_path, datasets=["fashion-mini"], change=change)).differences == ()


def test_torn_lines_and_events_that_cannot_be_are_left_out_by_both(tmp_path: Path) -> None:
    paths = campaign(tmp_path, datasets=["fashion-mini"], seeds=(1,))
    for file in paths.suites.glob("*/blocking/*/events-1-*.jsonl"):
        bad = [at("step", 99, s=11), {**span("step", 50, 40, s=13), "loss": 1.0}]
        file.write_text(file.read_text() + "".join(json.dumps(event) + "\n" for event in bad) + '{"e":"step","t":')
    assert count(paths).differences == ()


@pytest.mark.parametrize(
    ("metric", "value"), [("goodput_steps_per_s", 3.0001), ("replayed_steps", 3), ("ettr_ref", None)]
)
def test_an_edited_value_is_named_with_its_run_and_both_counts(tmp_path: Path, metric: str, value: Any) -> None:
    paths = campaign(tmp_path, datasets=["fashion-mini"], seeds=(1,))
    found = count(paths, **{metric: value})
    (one,) = found.differences
    assert (one.metric, one.ours) == (metric, value)
    assert one.recounted is not None
    text = found.sentences[METRICS.index(metric)]
    assert "differ in 1 of 3 runs" in text
    assert "/overlapped/seed1: " in text


def test_an_event_that_is_changed_after_the_first_count_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path, datasets=["fashion-mini"], seeds=(1,))
    found = load_campaign(paths)
    (file,) = paths.suites.glob("*/overlapped/seed1/events-launcher.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[-1]["t"] -= 100 * MS
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counted = count(paths, found)
    assert {(one.metric, one.run.split("/")[1]) for one in counted.differences} == {
        ("goodput_steps_per_s", "overlapped"), ("ettr_ref", "overlapped"),
    }  # fmt: skip


def test_without_runs_nothing_was_counted_twice(tmp_path: Path) -> None:
    counted = count(campaign(tmp_path, change=lambda *_: None))
    assert counted == Recount(dict.fromkeys(METRICS, 0), ())
    assert all("nothing was counted twice" in text for text in counted.sentences)


def test_the_report_prints_and_holds_the_second_count(tmp_path: Path) -> None:
    paths = campaign(tmp_path, datasets=["fashion-mini"])
    done = run_inline("report", "--prefix", "exp", "--results", str(tmp_path), "--check", "--format", "md")
    assert done.returncode == 0, done.stderr
    assert "check: ettr_ref: 2 of 2 agree in 9 runs" in done.stderr
    assert "ettr_ref: 2 of 2 agree in 9 runs." in paths.table("report.md").read_text()
    run_inline("report", "--prefix", "exp", "--results", str(tmp_path), "--format", "md")
    assert "2 of 2" not in paths.table("report.md").read_text()


def test_a_difference_exits_with_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No edit of records makes an honest ecrl disagree with itself, so a fault is planted into the query.
    from ecrl.analysis.recount import recount as module

    faulty = tmp_path / "runs.sql"
    faulty.write_text(module._QUERY.read_text().replace("useful / (wall_ns / 1e9) END", "useful / (wall_ns / 2e9) END"))
    monkeypatch.setattr(module, "_QUERY", faulty)
    campaign(tmp_path, datasets=["fashion-mini"], seeds=(1,))
    done = run_inline("report", "--prefix", "exp", "--results", str(tmp_path), "--check", "--format", "csv")
    assert done.returncode == 4
    assert "goodput_steps_per_s: the two counts differ in 3 of 3 runs: " in done.stderr


def test_a_table_cannot_be_counted_again(tmp_path: Path) -> None:
    done = run_inline("report", "--table", str(tmp_path / "t.csv"), "--check")
    assert done.returncode == 2
    assert "[ECRL-104]" in done.stderr
