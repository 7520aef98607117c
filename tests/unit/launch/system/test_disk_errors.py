"""What the operating system refuses is told with its place, and is no bug."""

import errno
import os
from pathlib import Path

import pytest

from ecrl.errors import explain_os_error
from ecrl.launch.system.disk_errors import explain_storage_errors
from ecrl.records.paths import CampaignPaths
from tests.errors import has_error, raises
from tests.unit.cli.inline import run_inline


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EIO, errno.ESTALE, errno.ENOLCK, errno.EMFILE, 12345])
def test_every_errno_of_the_results_folder_has_a_sentence(tmp_path: Path, number: int) -> None:
    paths = CampaignPaths(tmp_path, "p")
    place = str(tmp_path / "p" / "file")
    with raises("ECRL-504", place, "--results"), explain_storage_errors(paths):
        raise OSError(number, os.strerror(number), place)


def test_another_full_place_is_not_cured_by_another_results_folder(tmp_path: Path) -> None:
    with raises("ECRL-504", "/dev/shm", "no space") as raised, explain_storage_errors(CampaignPaths(tmp_path, "p")):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/dev/shm")
    assert "--results" not in str(raised.value)


def test_a_name_that_is_too_long_is_an_error_of_the_users() -> None:
    done = run_inline("matrix", "status", "--prefix", "p", "--results", "x" * 300)
    assert done.returncode == 2
    assert has_error(done.stderr.removeprefix("ecrl: "), "ECRL-514", "too long", "xxx")
    assert len(done.stderr) < 500


def test_a_removed_current_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    told = explain_os_error(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    assert has_error(told.format_message(), "ECRL-514", "the current folder")
