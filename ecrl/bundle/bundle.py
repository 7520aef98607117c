"""Making a bundle of a campaign, and the report again from a bundle."""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.next_runs import CommandLines
from ecrl.bundle.bag import BagInfo, write_bag
from ecrl.bundle.contents import RESULTS, copy_records, list_files, write_environment, write_left_out
from ecrl.bundle.crate import write_crate
from ecrl.errors import EcrlError
from ecrl.plugins import MissingExtraError
from ecrl.records.paths import CampaignPaths, find_current_folder
from ecrl.report.pages.calibration import read_calibrations
from ecrl.report.pages.render import render

_EPOCH = "SOURCE_DATE_EPOCH"
_GIVEN = "registration"  # folder of a registration file that is not the campaign's own


def check_extra() -> None:
    """Raise if a package that bundles need is not installed."""
    if missing := [name for name in ("rocrate", "bagit") if importlib.util.find_spec(name) is None]:
        raise MissingExtraError(
            "ECRL-290", f"bundles need the extra `bundle` ({', '.join(missing)}): pip install 'ecrl[bundle]'"
        )


def make_bundle(paths: CampaignPaths, target: Path, registration: Path | None = None) -> list[Path]:
    """Write the bundle of a campaign. Returns the files that it leaves out, below the campaign's folder.

    Raises:
        EcrlError: the target exists, or there is no such campaign.
    """
    if target.exists():
        raise EcrlError("ECRL-106", f"{target}: exists already, expected a new file or folder. Name one with --out.")
    siblings = load_campaign(paths, registration).siblings
    others = sorted({prefix for tested in siblings.values() for prefix in tested} - {paths.prefix})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ecrl-bundle-", dir=target.parent) as work:
        folder = Path(work) / "bag"
        left_out = copy_records(paths, folder, others)
        info = BagInfo(paths.prefix, _read_epoch_s(), registration=_copy_registration(registration, folder))
        write_environment(folder / "environment.json")
        write_left_out(folder / "left_out.json", paths, left_out)
        report = remake_report(folder, info, CampaignPaths(folder / RESULTS, paths.prefix).root)
        write_crate(folder, paths.prefix, info.epoch_s, report)
        write_bag(folder, info, target)
    return left_out


def remake_report(folder: Path, info: BagInfo, out: Path) -> list[Path]:
    """Write the report of a bundle's data into `out`, in the default formats. Returns the written files."""
    target = out.absolute()
    with fix_time(info.epoch_s):
        return render(load_evidence(folder, info), target)


def load_evidence(folder: Path, info: BagInfo) -> Evidence:
    """The evidence of a bundle's data. It does not depend on where the bundle lies."""
    # Messages name the results folder as ecrl was given it: inside the data it is always `results`.
    with _change_folder(folder):
        given = Path(info.registration) if info.registration else None
        paths = CampaignPaths(Path(RESULTS), info.prefix)
        calibrations = read_calibrations(paths)
        return build_evidence(load_campaign(paths, given), CommandLines("ecrl", RESULTS), calibrations=calibrations)


def find_differing_files(folder: Path, info: BagInfo, written: list[Path], out: Path) -> list[str]:
    """The names of the files in which the written report and that of the bundle are not the same, byte for byte."""
    paths = CampaignPaths(folder / RESULTS, info.prefix)
    bundled = {path for path in paths.root.rglob("*") if path.is_file()} - set(list_files(paths))
    names = {path.relative_to(out.absolute()) for path in written} | {path.relative_to(paths.root) for path in bundled}
    return [name.as_posix() for name in sorted(names) if not _is_same(paths.root / name, out / name)]


@contextlib.contextmanager
def fix_time(epoch_s: int) -> Iterator[None]:
    """Have reports and plots name this time while the block runs."""
    before = os.environ.get(_EPOCH)
    os.environ[_EPOCH] = str(epoch_s)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_EPOCH]
        else:
            os.environ[_EPOCH] = before


@contextlib.contextmanager
def _change_folder(folder: Path) -> Iterator[None]:
    """Make a folder the current one while the block runs. The current one may have been removed."""
    here = find_current_folder()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(here or "/")


def _read_epoch_s() -> int:
    said = os.environ.get(_EPOCH, "")
    return int(said) if said.isdigit() else int(time.time())


def _copy_registration(given: Path | None, folder: Path) -> str:
    if given is None:
        return ""
    (folder / _GIVEN).mkdir(parents=True)
    shutil.copyfile(given, folder / _GIVEN / given.name)
    return f"{_GIVEN}/{given.name}"


def _is_same(a: Path, b: Path) -> bool:
    return a.is_file() and b.is_file() and a.read_bytes() == b.read_bytes()
