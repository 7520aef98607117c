import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.tables import build_detailed_frame, build_summary_frame, format_csv
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite
from ecrl.errors import EcrlError
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS, RUN_COLUMNS
from ecrl.records.manifest.store import Manifest, Row
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import MS, campaign, refreeze


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def only(suite: str, variant: str, seed: int = 1) -> object:
    """Leaves this one run out."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
        chosen = run.dataset == suite and run.variant == variant and run.seed == seed
        return None if chosen else found

    return change


def folder(paths: CampaignPaths, variant: str, seed: int = 1, dataset: str = "cifar10") -> Path:
    [found] = paths.root.glob(f"suites/{dataset}-*/{variant}/seed{seed}")
    return found


def test_a_whole_campaign_is_correct_complete_and_without_warnings(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path))
    assert len(found.runs) == 18
    assert found.dropped == {}
    assert all(run.row["correct"] is True for run in found.runs)
    assert not [text for run in found.runs for text in run.warnings]
    overlapped = next(run.row for run in found.runs if run.row["variant"] == "overlapped")
    assert (overlapped["replayed_steps"], overlapped["restarts"], overlapped["failure_steps"]) == (2, 1, "6")
    assert overlapped["stall_s"] == pytest.approx(0.006)


def test_an_unknown_prefix_names_the_existing_ones(tmp_path: Path) -> None:
    campaign(tmp_path, "exp4")
    with pytest.raises(EcrlError, match=r"Did you mean 'exp4'\?\nThere are: exp4"):
        load_campaign(CampaignPaths(tmp_path, "exp5"))


def test_a_finished_run_without_its_run_json_says_what_to_type(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    path = next(paths.suites.glob("*/blocking/*/run.json"))
    path.unlink()
    [missing] = [run for run in evidence(paths).runs if run.row["outcome"] == "missing"]
    again = f"ecrl matrix run --prefix exp --results {tmp_path} --rerun {path.parents[2].name}"
    assert missing.facts["reason"] == f"its run.json is gone. Put it back, or run the suite again: {again}"


@pytest.mark.parametrize(("name", "reason"), [("run.json", "its run.json is gone"), ("result.json", "is damaged")])
def test_the_next_runs_name_the_suite_of_a_damaged_run_that_resume_takes_for_done(
    tmp_path: Path, name: str, reason: str
) -> None:
    paths = campaign(tmp_path)
    damaged = folder(paths, "blocking")
    if name == "run.json":
        (damaged / name).unlink()
    else:
        (damaged / name).write_text("garbage")
    of_manifest = load_campaign(paths)
    unfinished = "ecrl matrix resume --prefix exp --retry-failed"
    assert build_evidence(of_manifest).next_runs[0].command == unfinished  # there is no manifest: resume makes it again
    done = [Row(**facts(suite), status="completed") for suite in of_manifest.suites]
    Manifest.create(paths, done).close()
    found = evidence(paths)
    suite_id = damaged.parents[1].name
    commands = [one.command for one in found.next_runs]
    assert commands[0] == f"ecrl matrix run --prefix exp --rerun {suite_id}"
    assert unfinished not in commands
    [run] = [run for run in found.runs if run.row["outcome"] != "completed"]
    assert reason in run.facts["reason"]
    (folder(paths, "overlapped", dataset="fashion-mini") / "result.json").unlink()  # that it notices itself
    assert [one.command for one in evidence(paths).next_runs[:2]] == [unfinished, commands[0]]


def facts(suite: Suite) -> dict[str, Any]:
    """What the matrix says of a suite's row."""
    return {
        "suite_id": suite.suite_id, "dataset": suite.dataset, "model": suite.model,
        "failure_label": suite.failure_label, "failure_steps": suite.failure_steps,
        "checkpoint_every": suite.checkpoint_every, "max_inflight": suite.max_inflight, "nproc": suite.train.nproc,
        "steps": suite.train.steps, "seeds": suite.seeds, "variants": suite.variants, "runs_total": 9,
    }  # fmt: skip


def test_the_next_runs_add_a_second_reference_with_a_command(tmp_path: Path) -> None:
    [command] = [one.command for one in evidence(campaign(tmp_path)).next_runs if "(A/A)" in one.buys]
    assert command == "ecrl matrix run --prefix exp --aa blocking"


def test_a_missing_run_is_named_and_costs_the_comparisons_of_its_variant(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=only("cifar10", "blocking"))  # type: ignore[arg-type]
    found = evidence(paths)
    [missing] = [run for run in found.runs if run.row["outcome"] == "missing"]
    assert missing.facts["reason"] == "never started: there is no run.json"
    assert list(found.dropped.values()) == ["blocking is missing"]
    assert len(found.compare("overlapped", "blocking").pairs) == 5
    assert len(found.compare("overlapped", "reference").pairs) == 6, "they are whole"
    [threat] = [t for t in found.threats.found if t.code == "missing_blocks"]
    assert threat.blocking
    assert "only blocking is to blame" in threat.evidence
    assert found.next_runs[0].command == "ecrl matrix resume --prefix exp --retry-failed"


def test_a_failed_run_keeps_its_reason_and_its_ledger(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    run = folder(paths, "overlapped")
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(
        json.dumps(result | {"outcome": "failed", "reason": "rank 1 died", "exit_code": 1})
    )
    found = evidence(paths)
    [failed] = [r for r in found.runs if r.row["outcome"] == "failed"]
    assert (failed.facts["reason"], failed.row["goodput_steps_per_s"]) == ("rank 1 died", None)
    assert failed.row["wall_s"] > 0
    assert found.dropped[failed.row["suite_id"], 1] == "overlapped is failed"


def test_a_missing_reference_leaves_its_block_undecided_and_dropped(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, change=only("cifar10", "reference")))  # type: ignore[arg-type]
    [reason] = found.dropped.values()
    assert reason == (
        "reference is missing; blocking could not be judged (C4, C6 need the reference);"
        " overlapped could not be judged (C4, C6 need the reference)"
    )


def test_a_torn_last_line_is_named_and_costs_only_itself(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    events = folder(paths, "blocking") / "events-1-0.jsonl"
    events.write_bytes(events.read_bytes()[:-5])
    found = evidence(paths)
    assert any("events-1-0.jsonl: line" in text and "torn" in text for text in found.warnings)
    assert list(found.dropped.values()) == ["blocking does not pass C1"]  # the torn line was this rank's end


def test_a_missing_rank_file_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    (folder(paths, "blocking") / "events-1-1.jsonl").unlink()
    found = evidence(paths)
    assert any(text.endswith("events-1-1.jsonl: missing") for text in found.warnings)
    assert any("ranks disagree on restarts (rank 0: 1, rank 1: 0)" in text for text in found.warnings)
    row = next(r.row for r in found.runs if r.warnings)
    assert (row["c3"], row["correct"]) == (None, False)


def test_edited_copied_and_extra_run_folders_are_named_and_not_used(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    first = folder(paths, "blocking")
    shutil.copytree(first, first.with_name("seed1 (copy)"))
    shutil.copytree(first, first.with_name("seed77"))
    shutil.copytree(first, first.with_name("seed1.aside-1"))
    second = folder(paths, "overlapped")
    shutil.rmtree(second)
    shutil.copytree(first, second)
    third = folder(paths, "overlapped", 2)
    (third / "run.json").write_text((third / "run.json").read_text().replace('"seed": 2', '"seed": 3'))
    found = evidence(paths)
    text = "\n".join(found.warnings)
    assert "/blocking/seed1 (copy): a duplicate of suites/" in text
    assert "/blocking/seed77: a duplicate of suites/" in text
    assert "a copied folder" in text
    assert "aside" not in text
    assert "run.json: content does not match its run_hash" in text
    assert str(tmp_path) not in text
    assert sorted(r.row["outcome"] for r in found.runs).count("unreadable") == 2


def test_a_zero_wall_and_a_lost_launcher_are_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    first, second = folder(paths, "blocking"), folder(paths, "blocking", 2)
    lines = [json.loads(line) for line in (first / "events-launcher.jsonl").read_text().splitlines()]
    lines[-1]["t"] = lines[0]["t"]
    (first / "events-launcher.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (second / "events-launcher.jsonl").unlink()
    found = evidence(paths)
    assert any("wall-clock is 0 s" in text for text in found.warnings)
    assert any("events-launcher.jsonl: missing" in text for text in found.warnings)
    assert sorted(found.dropped.values()) == ["blocking has no wall-clock", "blocking has no wall-clock"]


def test_an_empty_campaign_has_only_missing_runs(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, change=lambda _run, _found: None))
    assert {run.row["outcome"] for run in found.runs} == {"missing"}
    assert len(found.dropped) == 6
    assert (found.claims[0].verdict, found.claims[0].would_be) == ("INTERIM", "INCONCLUSIVE")
    assert "correctness_failed" not in found.threats.clear, "what no run could show is not called clear"
    assert found.threats.not_checked["correctness_failed"] == "no run has begun"


def test_what_a_campaign_is_too_small_for_is_said(tmp_path: Path) -> None:
    def first_suite_fails(run: RunSpec, found: RunRecord) -> RunRecord:
        assert found.result is not None
        bad = run.dataset == "cifar10"
        return replace(found, result={**found.result, "outcome": "failed", "reason": "boom"}) if bad else found

    failed = evidence(campaign(tmp_path / "a", change=first_suite_fails, seeds=[7])).shortfalls
    assert any(text.startswith("suite cifar10-cnn-inside") and text.endswith("no run completed") for text in failed)
    assert "3 of 6 runs did not complete; the report says why" in failed
    assert "1 block in no comparison: a run is missing, failed or not correct" in failed
    assert any(text.startswith("one seed only (7)") for text in failed)
    alone = evidence(campaign(tmp_path / "b", datasets=["cifar10"], variants=["blocking"], claims="")).shortfalls
    assert [text.partition(":")[0] for text in alone] == ["one variant only (blocking)", "one suite only"]
    nothing = evidence(campaign(tmp_path / "c", change=lambda _run, _found: None)).shortfalls
    assert nothing == ("no run completed: there is no result",)
    assert evidence(campaign(tmp_path / "d")).shortfalls == ()


def test_machine_facts_that_are_no_object_are_named_and_left_out(tmp_path: Path) -> None:
    paths = campaign(tmp_path, seeds=[1])
    result = next(paths.root.glob("suites/*/blocking/seed1/result.json"))
    result.write_text(json.dumps(json.loads(result.read_text()) | {"machine": None}))
    found = evidence(paths)
    assert any("result.json: machine is None, expected an object" in text for text in found.warnings)
    assert len(found.completed) == 6


def test_six_pairs_confirm_a_gain_that_every_block_shows(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path))
    assert found.claims[0].verdict == "CONFIRMED"
    assert found.threats.veto_codes == []


def test_one_seed_vetoes_and_the_next_runs_name_the_seeds_to_add(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, seeds=[1337]))
    assert {"one_seed", "n_pairs_lt_6"} <= set(found.threats.veto_codes)
    assert found.claims[0].verdict == "INCONCLUSIVE"
    commands = [one.command for one in found.next_runs]
    matrix = "results/exp/exp_matrix.toml"
    assert f"ecrl matrix run --prefix exp-3seeds {matrix} --seeds 1337,1338,1339" in commands
    assert f"ecrl matrix run --prefix exp-intervals {matrix} --checkpoint-every 2,4,8" in commands


def test_threats_are_found_in_the_records(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        assert found.result is not None
        if run.dataset == "cifar10":
            found.result["machine"]["host"] = "other" if run.variant == "blocking" else "h"
        if run.seed == 3:
            found.launcher[-1]["t"] += 10_000 * MS
            found.result["machine"]["pressure_before"] = {"load1": 9.0}
            found.result["machine"]["pressure_after"] = {"load1": 90.0}
        if run.seed == 2:
            for (attempt, _), events in found.events.items():
                events[0]["real_minus_boot_ns"] = attempt * 60 * MS
        return found

    found = evidence(campaign(tmp_path, datasets=["cifar10", "noise"], change=change))
    codes = {threat.code: threat for threat in found.threats.found}
    assert (
        "inside block cifar10" in codes["mixed_environment"].evidence
        or "between" in codes["mixed_environment"].evidence
    )
    assert codes["clock_step"].evidence.startswith("runs during which the wall clock was set (4): ")
    assert codes["cpu_contention"].evidence.startswith("runs on a busy machine (6): ")
    assert codes["synthetic_data"].evidence.startswith("noise")
    assert "inflight_untested" in codes
    assert "mixed_environment" in found.threats.veto_codes


def test_a_ledger_with_too_much_unexplained_time_blocks_confirmation(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.seed == 1 and run.variant == "overlapped":
            for events in found.events.values():
                events[:] = [e for e in events if e["e"] != "step" or e["s"] != 2]
        return found

    found = evidence(campaign(tmp_path, change=change))
    assert "ledger_residual" in found.threats.veto_codes


def test_tables_have_the_contracts_columns_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=only("cifar10", "blocking"))  # type: ignore[arg-type]
    first, again = load_campaign(paths), load_campaign(paths)
    frame = build_runs_frame(run.row for run in first.runs)
    runs, summary = format_csv(frame), format_csv(build_summary_frame(frame))
    detailed = format_csv(build_detailed_frame(frame, first.dropped))
    assert runs == format_csv(build_runs_frame(run.row for run in again.runs))
    assert runs.splitlines()[0] == ",".join(RUN_COLUMNS)
    assert len(runs.splitlines()) == 19
    assert len(summary.splitlines()) == 7
    lines = detailed.splitlines()
    assert lines[0] == ",".join((*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS))
    assert lines[1].startswith("fashion-mini,cnn,inside:6,2.8")
    assert "nan" not in (runs + summary + detailed).lower()


def test_a_suite_without_a_whole_block_has_empty_cells(tmp_path: Path) -> None:
    paths = campaign(tmp_path, seeds=[1], change=only("cifar10", "overlapped"))  # type: ignore[arg-type]
    found = load_campaign(paths)
    runs = build_runs_frame(run.row for run in found.runs)
    last = format_csv(build_detailed_frame(runs, found.dropped)).splitlines()[-1]
    assert last.startswith("cifar10,cnn,inside:6,,,,,,,")


@pytest.mark.parametrize("variants", [["reference"], ["blocking"], ["blocking", "overlapped"]])
def test_any_set_of_variants_can_be_analysed(tmp_path: Path, variants: list[str]) -> None:
    found = evidence(campaign(tmp_path, variants=variants, claims="", seeds=[1], datasets=["cifar10"]))
    assert all(run.row["correct"] is True for run in found.runs)
    assert (found.headline is None) == (len(variants) == 1)
    if "reference" not in variants:
        assert any(threat.code == "no_reference" for threat in found.threats.found)


def test_a_result_that_lacks_a_field_is_named_and_does_not_count(tmp_path: Path) -> None:
    paths = campaign(tmp_path, seeds=[1])
    result = folder(paths, "blocking") / "result.json"
    result.write_text(json.dumps({k: v for k, v in json.loads(result.read_text()).items() if k != "machine"}))
    found = evidence(paths)
    assert any("result.json lacks machine and was not used" in text for text in found.warnings)
    assert "blocking is unfinished" in found.dropped.values()


def test_a_loss_that_is_not_finite_fails_c5_and_leaves_no_number_in_a_table(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        for events in found.events.values():
            for event in events:
                if run.variant == "blocking" and event["e"] == "step" and event["s"] == 12:
                    event["loss"] = float("nan")
        return found

    loaded = load_campaign(campaign(tmp_path, seeds=[1], change=change))
    rows = [run.row for run in loaded.runs]
    assert {row["c5"] for row in rows if row["variant"] == "blocking"} == {"fail"}
    frame = build_runs_frame(rows)
    assert "nan" not in format_csv(frame) + format_csv(build_summary_frame(frame))


def test_a_campaign_narrowed_by_a_flag_keeps_its_claims_and_can_be_reported(tmp_path: Path) -> None:
    paths = campaign(tmp_path, seeds=[1])
    refreeze(paths, '    "overlapped",\n]', "]")
    found = evidence(paths)
    assert [judged.would_be for judged in found.claims] == ["INCONCLUSIVE"]
    assert found.variants == ("reference", "blocking")
