"""What a campaign registered, against what is there: every way to lose, add or replace a block is seen."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.config.load import load
from ecrl.config.run import RunSpec
from ecrl.errors import RecordError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest.store import COMPLETED, RUNNING, Manifest
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.errors import raises
from tests.unit.analysis.campaign_builder import campaign, refreeze


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def finish(paths: CampaignPaths) -> None:
    """A manifest that says of every suite that it is done."""
    frozen = Campaign(paths, load(paths.matrix, frozen=True), "")
    opened = Manifest.create(paths, frozen.rows(), frozen.rows_hash)
    for suite in frozen.suites:
        for number, run in enumerate(frozen.runs(suite)):
            place = f"{run.paths.folder.parent.name}/{run.paths.folder.name}"
            opened.record(suite.suite_id, status=RUNNING, token=opened.next_token(), run=place, runs_done=number)
        opened.record(suite.suite_id, status=COMPLETED, runs_done=number + 1, run="")
    opened.close()


def threats(found: Evidence) -> dict[str, str]:
    return {threat.code: threat.evidence for threat in found.threats.found if threat.blocking}


def block(paths: CampaignPaths, seed: int = 1, dataset: str = "cifar10") -> list[Path]:
    return sorted(paths.suites.glob(f"{dataset}-*/*/seed{seed}"))


def test_a_whole_campaign_with_its_manifest_has_nothing_missing_stray_or_late(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    finish(paths)
    registration = load_campaign(paths).registration
    assert (registration.pending, registration.gone, registration.stray, registration.late) == ((), (), (), ())
    assert (registration.asides, registration.untraced) == ((), ())


def test_a_deleted_block_of_a_finished_suite_is_named_and_blocks(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    finish(paths)
    for folder in block(paths):
        shutil.rmtree(folder)
    found = threats(evidence(paths))["registered_blocks_missing"]
    assert found.startswith("registered, done, and not there (1): cifar10-cnn-inside-")
    assert "/seed1 (reference is missing, blocking is missing, overlapped is missing)" in found


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    3,\n", "", "seed 3 (in the manifest, not in the matrix)"),
        ('    "fashion-mini",\n', "", "fashion-mini-cnn-inside-"),
    ],
)
def test_seeds_and_suites_struck_from_the_matrix_are_refused_and_with_a_forged_hash_named(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    paths = campaign(tmp_path)
    finish(paths)
    whole = paths.matrix.read_text()
    assert old in whole
    paths.matrix.write_text(whole.replace(old, new))
    with pytest.raises(RecordError, match=r"exp_matrix.toml: its content does not match(.|\n)*--prefix exp-2") as error:
        load_campaign(paths)
    assert error.value.code == "ECRL-307"
    paths.matrix.write_text(whole)
    refreeze(paths, old, new)
    found = threats(evidence(paths))
    assert said in found["registered_blocks_missing"]
    assert "exp_manifest.journal was written for another matrix" in str(load_campaign(paths).registration.gone)
    assert found["stray_runs"].startswith("run folders that no matrix registered")


def test_an_edited_older_generation_is_refused_too(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    text = paths.matrix.read_text()
    paths.table("matrix.1.toml").write_text(text.replace("steps = 12", "steps = 13"))
    with pytest.raises(RecordError, match=r"exp_matrix\.1\.toml: its content does not match"):
        load_campaign(paths)


@pytest.mark.parametrize("name", ["matrix.toml", "matrix.1.toml"])
def test_a_frozen_matrix_without_a_hash_is_refused(tmp_path: Path, name: str) -> None:
    paths = campaign(tmp_path)
    paths.table(name).write_text(load(paths.matrix, frozen=True).to_toml("frozen: 2026-01-01"))
    with raises("ECRL-307", f"exp_{name}"):
        load_campaign(paths)


def test_a_copied_run_folder_is_a_stray_run(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    folder = block(paths)[0]
    shutil.copytree(folder, folder.with_name("seed99"))
    assert "seed99" in threats(evidence(paths))["stray_runs"]


def test_a_run_that_was_told_to_do_other_work_is_not_used(tmp_path: Path) -> None:
    """A warm-up, or a run of another campaign, that lies in the place of a run with a `run.json` that is whole."""
    paths = campaign(tmp_path)
    finish(paths)
    [folder] = [one for one in block(paths) if one.parent.name == "overlapped"]
    spec = RunSpec.read(folder / "run.json")
    shorter = dataclasses.replace(spec, failures=(), train=dataclasses.replace(spec.train, steps=6))
    shorter.write(folder / "run.json")
    edit_result(folder, run_hash=shorter.hash)
    found = load_campaign(paths)
    [reason] = [run.facts["reason"] for run in found.runs if run.row["outcome"] == "unreadable"]
    assert reason.startswith("run.json asks for other work than the matrix: failures is [], expected [{")
    assert reason.endswith("train.steps is 6, expected 12")
    assert "overlapped is unreadable" in threats(build_evidence(found))["registered_blocks_missing"]


def test_a_noisy_second_run_that_was_deleted_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    finish(paths)
    opened = Manifest.open(paths)
    suite_id = block(paths)[0].parents[1].name
    opened.record(suite_id, status=RUNNING, token=opened.next_token(), run="blocking-aa/seed1", runs_done=9)
    opened.record(suite_id, status=COMPLETED, runs_done=10, run="")
    opened.close()
    assert f"{suite_id}/blocking-aa/seed1 (A/A)" in threats(evidence(paths))["registered_blocks_missing"]


@pytest.mark.parametrize("with_manifest", [True, False])
def test_attempts_are_missed_when_the_history_of_them_is_deleted(tmp_path: Path, with_manifest: bool) -> None:
    def number(run: RunSpec, found: RunRecord) -> RunRecord:
        found.spec["token"] = run.token
        return found

    paths = campaign(tmp_path, change=number)
    for token, path in enumerate(sorted(paths.suites.glob("*/*/*/run.json"))):
        spec = RunSpec.read(path)  # number 1 was another attempt at some run, and left no folder
        dataclasses.replace(spec, token=token + 2).write(path)
    if with_manifest:
        Manifest.create(paths, Campaign(paths, load(paths.matrix, frozen=True), "").rows()).close()
    said = threats(evidence(paths))["registered_blocks_missing"]
    assert "attempts of which exp_manifest.history does not tell any more (1, the first is number 1)" in said


def paste_hash(paths: CampaignPaths) -> None:
    """Write the hash of the frozen claims into every run.json."""
    claims = load(paths.matrix, frozen=True).claims_hash
    for path in paths.suites.glob("*/*/*/run.json"):
        raw: dict[str, Any] = json.loads(path.read_text())
        path.write_text(json.dumps(raw | {"claims_hash": claims}))


@pytest.mark.parametrize(("pasted", "said"), [(False, "(other claims)"), (True, "is that of another matrix)")])
def test_claims_changed_after_the_runs_are_exploratory_even_if_their_hash_is_pasted(
    tmp_path: Path, pasted: bool, said: str
) -> None:
    paths = campaign(tmp_path)
    refreeze(paths, "ratio > 1.00", "ratio > 0.90")
    if pasted:
        paste_hash(paths)
    found = evidence(paths)
    assert found.claims[0].verdict == "EXPLORATORY"
    assert said in threats(found)["claims_after_data"]


# -- results against their events -----------------------------------------------------------------------------


def edit_result(folder: Path, **changes: Any) -> None:
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps(result | changes))


def test_a_result_that_its_events_contradict_blocks_by_name(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    assert "result_contradicts_events" not in threats(evidence(paths))
    folder = block(paths)[0]
    edit_result(folder, wall_s=1.25, restarts=7)
    found = threats(evidence(paths))["result_contradicts_events"]
    assert "cifar10-cnn-inside" in found
    assert "wall_s is 1.25, its events say" in found
    assert "restarts is 7, its events say 1" in found


def test_an_edited_events_file_blocks_by_its_digest(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    events = block(paths)[0] / "events-1-1.jsonl"
    events.write_text(events.read_text().replace('"loss": 0.125', '"loss": 0.126'))
    assert "events-1-1.jsonl is not the file that was written" in threats(evidence(paths))["result_contradicts_events"]


def test_results_without_digests_are_read_and_the_report_says_what_it_cannot_see(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    for path in paths.suites.glob("*/*/*/result.json"):
        result = json.loads(path.read_text())
        del result["events"]
        path.write_text(json.dumps(result))
    found = evidence(paths).threats
    why = found.not_checked["result_contradicts_events (digests)"]
    assert why == "cannot be seen here for 18 runs: recorded since 0.2"
    assert "result_contradicts_events" in found.clear


# -- looks ----------------------------------------------------------------------------------------------------


def test_before_every_registered_block_is_done_each_verdict_is_interim(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=lambda run, found: None if run.seed == 3 else found)
    [judged] = evidence(paths).claims
    assert (judged.verdict, judged.would_be) == ("INTERIM", "INCONCLUSIVE")
    assert judged.reasons[-1] == "2 registered blocks are not done"


def test_an_extension_is_a_look(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    matrix = load(paths.matrix, frozen=True)
    first = matrix.model_copy(update={"matrix": matrix.matrix.model_copy(update={"seeds": [1, 2]})})
    paths.table("matrix.1.toml").write_text(first.to_toml(f"experiment: {Campaign(paths, first, '').experiment_hash}"))
    found = load_campaign(paths)
    assert {found.registration.generations[run.key] for run in found.runs if run.row["seed"] == 3} == {1}
    assert [judged.looks for judged in build_evidence(found).claims] == [2]


def test_a_suite_that_was_run_again_is_a_look_and_shows_what_it_was(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    for folder in block(paths):
        shutil.copytree(folder, folder.with_name("seed1.aside-1"))
    found = evidence(paths)
    assert [judged.looks for judged in found.claims] == [2]
    assert [aside.outcome for aside in found.registration.asides] == ["completed"] * 3
    assert found.registration.asides[0].row is not None
    assert found.registration.get_first_rows(found.rows) is not None
    (block(paths)[0].with_name("seed1.aside-1") / "run.json").unlink()
    assert evidence(paths).registration.get_first_rows(found.rows) is None


def test_a_failed_run_that_was_made_again_is_a_look_for_claims_about_outcomes_only(tmp_path: Path) -> None:
    claims = '[[claims]]\nname = "recovers"\nof = "blocking"\nmetric = "correct"\nexpect = "rate > 0.5"\n'
    paths = campaign(tmp_path, claims=claims)
    [folder] = [one for one in block(paths) if one.parent.name == "blocking"]
    shutil.copytree(folder, aside := folder.with_name("seed1.aside-1"))
    edit_result(aside, outcome="failed", reason="killed")
    assert [judged.looks for judged in evidence(paths).claims] == [2]
    registration = load_campaign(paths).registration
    assert registration.count_looks([registration.asides[0].key]) == 1


def test_a_result_that_was_deleted_and_made_again_is_seen_in_the_journal(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    finish(paths)
    opened = Manifest.open(paths)
    suite_id = block(paths)[0].parents[1].name
    for number, name in enumerate(("blocking/seed1", "overlapped/seed1")):
        opened.record(suite_id, status=RUNNING, token=opened.next_token(), run=name, runs_done=number)
    opened.record(suite_id, status=COMPLETED, runs_done=9, run="")
    opened.close()
    found = load_campaign(paths)
    assert set(found.registration.untraced) == {(suite_id, "blocking", 1), (suite_id, "overlapped", 1)}
    assert [judged.looks for judged in build_evidence(found).claims] == [2]


# -- which blocks a comparison uses ---------------------------------------------------------------------------


def test_one_schedule_under_several_labels_is_one_suite(tmp_path: Path) -> None:
    labels = "a = [6]\nb = [6]\nc = [6]\nd = [6]"
    found = evidence(campaign(tmp_path, datasets=["cifar10"], failures=labels))
    [judged] = found.claims
    assert (len(found.suites), judged.n_pairs, judged.n_suites) == (4, 3, 1)
    assert "3 pairs; below 6" in threats(found)["n_pairs_lt_6"]
    [alike] = [threat.evidence for threat in found.threats.found if threat.code == "alike_suites"]
    assert alike.count(" = ") == 3


@pytest.mark.parametrize(("variants", "suites"), [(("torch-save", "blocking"), 1), (("overlapped", "blocking"), 2)])
def test_an_axis_that_neither_engine_uses_makes_no_suites(
    tmp_path: Path, variants: tuple[str, str], suites: int
) -> None:
    claims = f'[[claims]]\nname = "c"\ncompare = {json.dumps(variants)}\nexpect = "ratio > 1.0"\n'
    paths = campaign(tmp_path, datasets=["cifar10"], variants=("reference", *variants), claims=claims, inflight=(1, 4))
    [judged] = evidence(paths).claims
    assert (judged.n_suites, judged.n_pairs) == (suites, 3 * suites)


def test_a_third_variant_that_fails_costs_a_claim_about_two_others_nothing(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        assert found.result is not None
        if run.variant == "torch-save":
            found.result["outcome"] = "failed"
        return found

    variants = ("reference", "blocking", "overlapped", "torch-save")
    found = evidence(campaign(tmp_path, variants=variants, change=change))
    [judged] = found.claims
    assert (judged.n_pairs, len(found.dropped)) == (6, 6)
    assert found.threats.find_vetoes(judged.claim) == []
    assert "n_pairs_lt_6" in found.threats.veto_codes, "of the pairs with torch-save"


def test_a_claim_about_outcomes_counts_failures_and_is_not_vetoed_by_them(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        assert found.result is not None
        if run.variant == "blocking":
            found.result["outcome"] = "failed"
        return found

    claims = '[[claims]]\nname = "recovers"\nof = "blocking"\nmetric = "correct"\nexpect = "rate > 0.9"\n'
    [judged] = evidence(campaign(tmp_path, claims=claims, change=change)).claims
    assert (judged.estimate, judged.n_pairs, judged.verdict) == (0.0, 6, "REFUTED")


def test_an_event_that_lacks_a_field_is_a_contradiction_and_no_crash(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    (file,) = paths.suites.glob("cifar10-*/overlapped/seed1/events-1-1.jsonl")
    file.write_text(file.read_text() + '{"e":"step","t":1,"t0":0,"s":11}\n')
    found = evidence(paths)
    assert "events-1-1.jsonl is not the file that was written" in threats(found)["result_contradicts_events"]
    assert any("loss is missing" in warning for warning in found.warnings)
