"""A later ecrl, which has one more setting, opens a campaign of an older one: nothing of it counts as edited."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import ecrl
from ecrl.records.paths import CampaignPaths

PACKAGE = Path(ecrl.__file__).parent
ARCHIVE = PACKAGE.parent / "tests" / "unit" / "config" / "golden" / "half-run-0.1.0.tar.xz"
_SETTING = "    throw_away: Annotated[float, Later(legacy=0.0)] = 0.0\n"


def test_one_more_setting_with_a_legacy_leaves_older_campaigns_as_they_are(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "ecrl", ignore=shutil.ignore_patterns("*.npz", "__pycache__", "matrices"))
    settings = tmp_path / "ecrl" / "config" / "train.py"
    text = settings.read_text()
    begin = text.index("    steps: ")
    settings.write_text(text[:begin] + _SETTING + text[begin:])
    with tarfile.open(ARCHIVE) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # as in test_older_campaign.py
        archive.extractall(tmp_path / "results")
    paths = CampaignPaths(tmp_path / "results", "half")
    for command in (["matrix", "status"], ["report", "--format", "csv"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "ecrl", *command, "--prefix", "half", "--results", str(paths.results)],
            env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "edited" not in done.stderr, done.stderr
    assert (paths.root / "half_runs.csv").read_text().count(",completed,") == 4, (
        "every finished run is known (the fifth result is A/A)"
    )
