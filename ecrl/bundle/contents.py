"""What a bundle holds of a campaign, and what it leaves out."""

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ecrl import __version__
from ecrl.config.registration import compute_analysis_version, get_kept_path
from ecrl.records.paths import CampaignPaths

RESULTS = "results"  # the results folder inside the bundle
_WARMUPS = "warmups"
# Folders of a run whose content is left out: payloads of checkpoints, and logs.
_LEFT_OUT = ("checkpoints", "logs")
_COMMIT = "COMMIT.json"  # of a checkpoint: sizes and digests of its files


def copy_records(paths: CampaignPaths, target: Path, siblings: Iterable[str]) -> list[Path]:
    """Copy the records of a campaign into the folder `target`. Returns the files that are left out, below the campaign.

    siblings: other campaigns that test the same claims. Their frozen matrices are copied, so that the report made from
    the copy names them too.
    """
    left_out = []
    copies = CampaignPaths(target / RESULTS, paths.prefix)
    for file in list_files(paths):
        name = file.relative_to(paths.root)
        if paths.name_run_folder(file) in _LEFT_OUT and file.name != _COMMIT:
            left_out.append(name)
        else:
            _copy(file, copies.root / name)
    for prefix in siblings:
        for file in sorted((paths.results / prefix).glob(f"{prefix}_matrix*.toml")):
            _copy(file, target / RESULTS / prefix / file.name)
    return left_out


def write_environment(path: Path) -> None:
    """Write down the Python, the packages and the code that make the report. The machine is in each result.json."""
    packages = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    found = {
        "ecrl": __version__,
        "analysis": compute_analysis_version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
    }
    path.write_text(json.dumps(found, indent=1) + "\n")


def write_left_out(path: Path, paths: CampaignPaths, left_out: Iterable[Path]) -> None:
    """Write down the files that the bundle does not hold, with their sizes in bytes."""
    sizes = {name.as_posix(): (paths.root / name).stat().st_size for name in left_out}
    path.write_text(json.dumps(sizes, indent=1) + "\n")


def list_files(paths: CampaignPaths) -> Iterator[Path]:
    """What a report of a campaign reads. What a report wrote is not among them."""
    yield from sorted(paths.root.glob(f"{paths.prefix}_matrix*.toml"))
    single = (paths.manifest, paths.journal, get_kept_path(paths), paths.script, paths.probe, paths.calibration)
    yield from (file for file in single if file.is_file())
    for folder in (paths.suites, paths.root / _WARMUPS):
        yield from (file for file in sorted(folder.rglob("*")) if file.is_file())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
