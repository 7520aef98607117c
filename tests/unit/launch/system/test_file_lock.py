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


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "no locks")))


def write_record(path: Path, **changes: Any) -> Path:
    record = path.with_name(f"{path.name}.owner")
    owner = dataclasses.asdict(get_current_owner(path.parent)) | changes
    record.write_text(json.dumps(owner))
    return record


DEAD = {"start_ticks": 1}


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize(
    ("changes", "free"),
    [
        (DEAD, True),
        (DEAD | {"host": "another"}, True),  # the same kernel and namespace of pids: the host was renamed
        (DEAD | {"host": "another", "boot_id": "b"}, False),
        (DEAD | {"boot_id": "b"}, True),  # this host has started again
        (DEAD | {"pid_ns": 1}, False),  # a container that has this host's name
        ({"folder": 1}, True),  # a copied campaign: the owner works on the original
        (DEAD | {"pid": "x"}, False),
        (DEAD | {"pid": -1}, True),
        (DEAD | {"pid": 10**30}, True),
        ({"nonsense": 1}, False),
    ],
)
def test_who_may_live_keeps_its_record(tmp_path: Path, changes: dict[str, Any], free: bool) -> None:
    write_record(tmp_path / "a.lock", **changes)
    lock = take(tmp_path / "a.lock")
    assert (lock is not None) is free
    if lock is not None:
        lock.release()
        assert [file.name for file in tmp_path.iterdir()] == ["a.lock"]


@pytest.mark.usefixtures("no_locks")
def test_a_record_that_is_no_text_or_no_file_is_that_of_a_living_one(tmp_path: Path) -> None:
    (tmp_path / "a.lock.owner").write_bytes(b"\xff\xfe")
    assert take(tmp_path / "a.lock") is None
    (tmp_path / "a.lock.owner").unlink()
    (tmp_path / "a.lock.owner").mkdir()
    assert take(tmp_path / "a.lock") is None


@pytest.mark.usefixtures("no_locks")
def test_a_lock_that_somebody_else_has_taken_over_is_not_released_for_them(tmp_path: Path) -> None:
    lock = take(tmp_path / "a.lock")
    assert lock is not None
    record = write_record(tmp_path / "a.lock", pid=1)
    lock.release()
    assert record.exists()


@pytest.mark.usefixtures("no_locks")
def test_of_those_that_see_a_dead_owner_one_alone_takes_over(tmp_path: Path) -> None:
    record = write_record(tmp_path / "a.lock", **DEAD)
    takeover = tmp_path / "a.lock.owner.takeover"
    takeover.write_text(json.dumps(dataclasses.asdict(get_current_owner())))
    assert take(tmp_path / "a.lock") is None, "another one is about to"
    takeover.write_text(record.read_text())
    assert take(tmp_path / "a.lock") is None, "that one was killed: made way for the next"
    lock = take(tmp_path / "a.lock")
    assert lock is not None
    lock.release()
    assert [file.name for file in tmp_path.iterdir()] == ["a.lock"]


@pytest.mark.usefixtures("no_locks")
def test_a_full_disk_leaves_no_empty_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None: ...

        write = is_full

    monkeypatch.setattr(os, "fdopen", lambda *_: Full())
    with pytest.raises(OSError, match="No space"):
        take(tmp_path / "a.lock")
    assert not (tmp_path / "a.lock.owner").exists()


@pytest.mark.usefixtures("no_locks")
def test_a_prefix_whose_owner_cannot_be_known_says_how_to_free_it(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path, "p")
    paths.root.mkdir()
    record = write_record(paths.lock, host="another", boot_id="b")
    with raises("ECRL-309", str(record), "remove this file"), prefix_lease(paths):
        pass
