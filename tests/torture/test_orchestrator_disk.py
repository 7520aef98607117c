"""A disk that is full while ecrl plans, runs, folds its journal in and reports; a disk that may only be read."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.runs.progress import SilentObserver, Totals
from ecrl.launch.system.device_leases import FOLDER_VARIABLE, DeviceSet, describe_holders, try_lease
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Manifest
from tests.unit.cli.inline import run_inline
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

DEVICE = DeviceSet(("fake-0",))
MANY = MATRIX.replace("checkpoint_every = [2]", f"checkpoint_every = {list(range(1, 7))}\nmax_inflight = [1, 2, 3, 4]")


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() != 0 or not _mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)):
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def filled(disk: Path, left: int = 0) -> None:
    """Leave so many bytes (whole pages) of the disk."""
    with (disk / "filler").open("wb") as file:
        status = os.statvfs(disk)
        file.write(bytes(max(status.f_bavail * status.f_frsize - left, 0)))


def emptied(disk: Path) -> None:
    (disk / "filler").unlink()


class FillsAt(SilentObserver):
    """Fills the disk right before the n-th run is started."""

    def __init__(self, disk: Path, number: int, left: int) -> None:
        self.disk, self.number, self.left = disk, number, left

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        self.number -= 1
        if self.number == 0:
            filled(self.disk, self.left)


@pytest.mark.parametrize("left", [0, 4096, 8192, 16384])
def test_full_while_planning_says_so_and_planning_works_after(disk: Path, left: int) -> None:
    asked = request(disk / "results", text=MANY)
    filled(disk, left)
    with pytest.raises(EcrlError, match=r"free, expected at least .*(.|\n)*Free some space"):
        control(StandIn()).run(asked, Policy())
    with pytest.raises(EcrlError, match=r"no space left on the device(.|\n)*then type"):
        control(StandIn()).plan(asked)  # starts nothing, so it tries
    emptied(disk)
    assert len(control(StandIn()).plan(asked)) == 48


@pytest.mark.sampled("full disk")
@pytest.mark.parametrize("left", [0, 4096, 12288, 20480])
@pytest.mark.parametrize(("number", "jobs"), [(1, 1), (4, 1), (4, 2)])
def test_full_while_running_ends_with_an_error_and_resume_loses_and_repeats_nothing(
    disk: Path, number: int, jobs: int, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECRL_FAKE_GPUS", "4")
    asked, launcher = request(disk / "results", text=f"{MATRIX}[run]\njobs = {jobs}\n"), StandIn()
    with pytest.raises(EcrlError, match=r"no space left on the device(.|\n)*ecrl matrix resume --prefix exp"):
        control(launcher, FillsAt(disk, number, left)).run(asked, Policy())
    assert "failed" not in {row.status for row in manifest.read(asked.paths).rows.values()}
    before = {p: p.stat().st_mtime_ns for p in asked.paths.root.rglob("result.json")}
    assert len(before) >= number - jobs
    emptied(disk)
    again = StandIn()
    assert control(again).resume(asked.paths, Policy()) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(again.started) == 6 - len(before)


def test_full_while_the_journal_is_folded_in_keeps_every_change(disk: Path) -> None:
    asked = request(disk / "results", text=MANY)
    control(StandIn()).plan(asked)
    written = Manifest.open(asked.paths)
    for suite_id in list(written.rows)[:5]:
        written.record(suite_id, status="interrupted", attempts=3, token=written.next_token())
    expected = {suite_id: (row.status, row.attempts) for suite_id, row in written.rows.items()}
    for left in (0, 4096):
        filled(disk, left)
        with pytest.raises(OSError, match="No space left"):
            written.compact()
        found = manifest.read(asked.paths)
        assert {suite_id: (row.status, row.attempts) for suite_id, row in found.rows.items()} == expected
        emptied(disk)
    written.compact()
    assert len(manifest.history(asked.paths, next(iter(expected)))) == 1


def test_full_while_reporting_is_told_in_words_and_the_report_works_after(disk: Path) -> None:
    asked = request(disk / "results")
    control(StandIn()).run(asked, Policy())
    arguments = ["report", "--prefix", "exp", "--results", str(asked.paths.results)]
    filled(disk)
    full = subprocess.run([sys.executable, "-m", "ecrl", *arguments], capture_output=True, text=True, check=False)
    assert full.returncode != 0
    assert "pace left" in full.stderr
    assert "Traceback" not in full.stderr
    emptied(disk)
    again = run_inline(*arguments)
    assert again.returncode == 0, again.stderr
    assert asked.paths.table("report.md").stat().st_size > 1000


def test_leases_on_a_full_disk_hold_though_they_cannot_say_whose_they_are(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(disk / "leases"))
    filled(disk)
    lease = try_lease(DEVICE)
    assert lease is not None
    assert try_lease(DEVICE) is None
    assert describe_holders(DEVICE) == "an unknown process"
    lease.release()
    assert control(StandIn()).run(request(tmp_path / "results"), Policy()) == 0


READS = (
    ["matrix", "list"],
    ["matrix", "status", "--prefix", "exp"],
    ["matrix", "show", "late", "--prefix", "exp"],
    ["matrix", "clean", "--prefix", "exp"],
    ["logs", "late", "--prefix", "exp"],
)
WRITES = (
    ["matrix", "resume", "--prefix", "exp"],
    ["matrix", "run", "--prefix", "exp"],
    ["matrix", "plan", "--prefix", "new", "matrix.toml"],
    ["matrix", "run", "--prefix", "new", "matrix.toml", "--detach"],
    ["matrix", "clean", "--prefix", "exp", "--kinds", "checkpoints,set-aside", "--yes"],
    ["report", "--prefix", "exp"],
)


def test_a_folder_that_may_only_be_read_can_be_looked_at_and_whatever_writes_says_so(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(disk / "results")
    control(StandIn({"early/blocking": "crash"})).run(asked, Policy())
    folder = asked.paths.run(next(iter(manifest.read(asked.paths).rows)), "blocking", 1337).folder
    (folder.parent / "seed1337.aside-1").mkdir()

    def ecrl(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
        return run_inline(*arguments, "--results", str(asked.paths.results))

    monkeypatch.chdir(disk)
    assert _mount("-o", "remount,ro,size=8g", str(disk))  # room enough: that is not what is told
    for arguments in READS:
        done = ecrl(arguments)
        assert done.returncode == 0, (arguments, done.stderr)
    for arguments in WRITES:
        done = ecrl(arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert "ead-only file system" in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr
    monkeypatch.undo()  # leaves the disk, so that it can be unmounted
    assert _mount("-o", "remount,rw", str(disk))
    assert control(StandIn()).resume(asked.paths, Policy(retry_failed=True)) == 0
