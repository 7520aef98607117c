"""Locks on files, with the kernel's locks and where a file system has none (flock is refused, as there)."""

import dataclasses
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ecrl.launch.campaign.lock import holder, is_held, prefix_lease
from ecrl.launch.system.file_lock import FileLock, is_locked, take_lock
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.records.paths import CampaignPaths
from tests.errors import raises


@pytest.fixture(params=[None, errno.ENOLCK, errno.ENOSYS], ids=["kernel", "ENOLCK", "ENOSYS"])
def lock_errno(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    def refuses(*_: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param is not None:
        monkeypatch.setattr(fcntl, "flock", refuses)
    return None if request.param is None else int(request.param)


def take(path: Path) -> FileLock | None:
    return take_lock(path, os.open(path, os.O_RDWR | os.O_CREAT))


def locked(path: Path) -> bool:
    with path.open() as file:
        return is_locked(path, file.fileno())


@pytest.mark.usefixtures("lock_errno")
def test_a_lock_keeps_others_out_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.touch()
    assert not locked(path)
    lock = take(path)
    assert lock is not None
    assert locked(path)
    assert take(path) is None
    lock.release()
    assert not locked(path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.lock"]
    again = take(path)
    assert again is not None
    again.release()


def test_another_error_of_flock_is_no_missing_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuses)
    with pytest.raises(OSError, match="Input/output"):
        take(tmp_path / "a.lock")
    assert not (tmp_path / "a.lock.owner").exists()


@pytest.mark.parametrize(
    ("start_ticks", "text", "free"), [(1, None, True), (None, None, False), (None, "{", False), (None, "", False)]
)
def test_the_record_of_a_process_that_has_ended_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start_ticks: int | None, text: str | None, free: bool
) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))
    owner = get_current_owner()
    owner = owner if start_ticks is None else dataclasses.replace(owner, start_ticks=start_ticks)
    record = tmp_path / "a.lock.owner"
    record.write_text(json.dumps(dataclasses.asdict(owner)) if text is None else text)
    (tmp_path / "a.lock").touch()
    assert locked(tmp_path / "a.lock") is not free
    lock = take(tmp_path / "a.lock")
    assert (lock is not None) is free
    if lock is not None:
        lock.release()


@pytest.mark.usefixtures("lock_errno")
def test_a_prefix_is_held_by_one_ecrl(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path, "p")
    assert not is_held(paths)
    with prefix_lease(paths):
        assert is_held(paths)
        held = holder(paths)
        assert held is not None
        assert held.owner.pid == os.getpid()
        with raises("ECRL-309", str(os.getpid())), prefix_lease(paths):
            pass
    assert not is_held(paths)
