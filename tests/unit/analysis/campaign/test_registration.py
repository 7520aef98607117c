"""What a campaign registered, against what is there: every way to lose, add or replace a block is seen."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.config.load import load
from ecrl.errors import RecordError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.records.manifest.store import COMPLETED, RUNNING, Manifest
from ecrl.records.paths import CampaignPaths
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


def test_a_frozen_matrix_without_a_hash_is_read_with_a_warning(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    paths.matrix.write_text(load(paths.matrix, frozen=True).to_toml("frozen: 2026-01-01"))
    found = load_campaign(paths)
    assert "exp_matrix.toml: no hash in its header: an edit of it cannot be seen here" in found.warnings
    assert len(found.runs) == 18


def test_a_copied_run_folder_is_a_stray_run(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    folder = block(paths)[0]
    shutil.copytree(folder, folder.with_name("seed99"))
    assert "seed99" in threats(evidence(paths))["stray_runs"]


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
