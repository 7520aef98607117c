"""Locks on files. The kernel releases a lock with its process; where a file system has none, an owner record stands in.

The record, `<file>.owner`, is created by one process alone (O_EXCL) and counts as long as that process may live.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ecrl.launch.system.process_identity import Liveness, check_owner, get_current_owner
from ecrl.records.manifest.store import Owner

# What flock says on file systems without locks: NFS without a lock daemon, some FUSE and 9p mounts.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_POLL_S = 0.02


@dataclass
class FileLock:
    """A held lock. fd: the locked descriptor; a process that inherits it holds the lock, too. record: the owner record;
    None: the kernel holds the lock."""

    fd: int
    record: Path | None = None

    def release(self) -> None:
        """Give the lock up, once."""
        if self.record is not None:
            self.record.unlink(missing_ok=True)
        os.close(self.fd)


def take_lock(path: Path, fd: int, timeout_s: float = 0.0) -> FileLock | None:
    """Lock the open file `fd`, whose name is `path`. None: another process still holds it after `timeout_s`.

    The descriptor belongs to the lock, and is closed if there is none.
    """
    deadline = time.monotonic() + timeout_s
    try:
        while (lock := _try_lock(path, fd)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    except BaseException:
        os.close(fd)
        raise
    if lock is None:
        os.close(fd)
    return lock


def is_locked(path: Path, fd: int) -> bool:
    """Whether a process holds the lock of the open file `fd`, whose name is `path`. Changes nothing."""
    try:
        # Shared, so that two simultaneous checks do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return _is_alive(_read_record(_get_record(path)))
    return False


def _try_lock(path: Path, fd: int) -> FileLock | None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return FileLock(fd)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    record = _get_record(path)
    return FileLock(fd, record) if _create_record(record) else None


def _create_record(record: Path) -> bool:
    """Write this process into the record; one whose process has ended is replaced. False: another process owns it."""
    own = json.dumps(dataclasses.asdict(get_current_owner()))
    if _write_new(record, own):
        return True
    if _is_alive(found := _read_record(record)):
        return False
    _remove_record(record, found)
    return _write_new(record, own)


def _remove_record(record: Path, dead: str | None) -> None:
    """Remove the record of a process that has ended. Another one that has come meanwhile is put back."""
    aside = record.with_name(f"{record.name}.dead-{os.getpid()}-{threading.get_ident()}")
    with contextlib.suppress(FileNotFoundError):
        record.rename(aside)
        if (found := _read_record(aside)) not in (dead, None):
            _write_new(record, str(found))
        aside.unlink(missing_ok=True)


def _write_new(record: Path, text: str) -> bool:
    """Create the record. False: there is one."""
    try:
        fd = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(fd, "w") as file:
        file.write(text)
    return True


def _get_record(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _read_record(record: Path) -> str | None:
    try:
        return record.read_text()
    except FileNotFoundError:
        return None


def _is_alive(text: str | None) -> bool:
    """Whether the process of a record may live. A record that cannot be read counts as that of a living one."""
    if text is None:
        return False
    try:
        return check_owner(Owner(**json.loads(text))) is not Liveness.DEAD
    except (ValueError, TypeError):
        return True
