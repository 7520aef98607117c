"""A campaign that version 0.1.0 froze, ran half of and was killed in, finished by today's version."""

import csv
import json
import tarfile
from pathlib import Path

import pytest

from ecrl.records.paths import CampaignPaths
from tests.process.program import Ecrl

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]
ARCHIVE = Path(__file__).parents[1] / "unit" / "config" / "golden" / "half-run-0.1.0.tar.xz"


def unpacked(ecrl: Ecrl) -> CampaignPaths:
    with tarfile.open(ARCHIVE) as archive:
        # The argument `filter` is that of Python 3.11.4 and later; older ones ignore the attribute.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(ecrl.folder / "results")
    ecrl.paths = CampaignPaths(ecrl.folder / "results", "half")
    return ecrl.paths


def test_it_resumes_keeps_its_ids_repeats_nothing_and_reports(ecrl: Ecrl) -> None:
    paths = unpacked(ecrl)
    done = {path: path.read_bytes() for path in paths.root.rglob("result.json")}
    ids = {folder.name for folder in (paths.root / "suites").iterdir()}
    assert len(done) == 5

    code, _, errors = ecrl.run("resume")
    assert code == 0, errors
    assert {path: path.read_bytes() for path in done} == done, "a finished run was repeated"
    rows = list(csv.DictReader(paths.manifest.read_text().splitlines()))
    assert ids <= {row["suite_id"] for row in rows}
    assert [row["status"] for row in rows] == ["completed", "completed"]
    hashes = [json.loads(path.read_text())["run_hash"] for path in paths.suites.rglob("result.json")]
    assert len(hashes) == sum(int(row["runs_total"]) for row in rows)

    code, _, errors = ecrl.report()
    assert code == 0, errors
    assert "EXPLORATORY" not in paths.table("report.md").read_text(), "the claims were registered before the first run"


def test_the_file_that_it_was_made_from_is_the_same_campaign(ecrl: Ecrl) -> None:
    unpacked(ecrl)
    source = ecrl.matrix(
        """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [4]
seeds = [1337, 2027]
[failures]
base = [6]
later = [3, { at = 9, phase = "persist" }]
[train]
steps = 12
batch_size = 4
nproc = 2
lr = 0.02
launcher = "warm"
[run]
device = "cpu"
aa = true
[[claims]]
name = "overlapping pays"
compare = ["overlapped", "blocking"]
expect = "ratio > 1.00"
"""
    )
    code, out, errors = ecrl.run("run", source, "--dry-run")
    assert code == 0, errors
    assert "9 of 14 runs" in out + errors
