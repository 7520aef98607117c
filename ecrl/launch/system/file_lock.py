"""Locks on files. The kernel releases a lock with its process; where a file system has none, an owner record stands in.

The record, `<file>.owner`, is created by one process alone (O_EXCL) and counts as long as that process may live.
"""

import dataclasses
import errno
import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from ecrl.launch.system.process_identity import Liveness, check_owner, get_current_owner
from ecrl.records.manifest.store import Owner
from ecrl.storage.atomic import write_atomic

# What flock says on file systems without locks: NFS without a lock daemon, some FUSE and 9p mounts.
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
_POLL_S = 0.02


@dataclass
class FileLock:
    """A held lock. fd: the locked descriptor; a process that inherits it holds the lock, too. record: the owner record;
    None: the kernel holds the lock. text: of that record."""

    fd: int
    record: Path | None = None
    text: str = ""

    def release(self) -> None:
        """Give the lock up, once."""
        # Somebody may have removed the record and taken the lock: that one's record stays.
        if self.record is not None and _read_record(self.record) == self.text:
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
        return _is_alive(_get_record(path))
    return False


def describe_record(path: Path) -> str:
    """What to do about the record that stands in for the lock of this file; '' if the kernel holds the lock."""
    record = _get_record(path)
    if not os.path.lexists(record):
        return ""
    return f"Its owner is recorded in {record}: if that process is gone for certain, remove this file"


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
    own = json.dumps(dataclasses.asdict(get_current_owner(record.parent)))
    try:
        return FileLock(fd, record, own) if _create_record(record, own) else None
    except PermissionError:
        return None  # another user's record in a folder in which only its owner may remove a file


def _create_record(record: Path, own: str) -> bool:
    """Write this process into the record; one whose process has ended is replaced. False: another process owns it."""
    if _write_new(record, own):
        return True
    if _is_alive(record):
        return False
    # Of several that see a dead owner, one alone replaces it. Who looked before that must not replace its successor.
    takeover = record.with_name(f"{record.name}.takeover")
    if not _write_new(takeover, own):
        if not _is_alive(takeover):
            takeover.unlink(missing_ok=True)  # killed in the lines below; the next try comes through
        return False
    try:
        if _is_alive(record):
            return False
        write_atomic(record, own.encode())
        return True
    finally:
        takeover.unlink(missing_ok=True)


def _write_new(record: Path, text: str) -> bool:
    """Create the record. False: there is one."""
    try:
        fd = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
    except OSError:  # a full disk: an empty record would count for ever
        record.unlink(missing_ok=True)
        raise
    return True


def _get_record(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _read_record(record: Path) -> str | None:
    """The text of a record, None if there is none; '' if it cannot be read."""
    try:
        return record.read_text(errors="replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _is_alive(record: Path) -> bool:
    """Whether the process of a record may live. A record that cannot be read counts as that of a living one."""
    if (text := _read_record(record)) is None:
        return False
    try:
        owner, own = Owner(**json.loads(text)), get_current_owner(record.parent)
    except (ValueError, TypeError):
        return True
    if owner.folder not in (0, own.folder):
        return False  # a copied folder: the owner works on the original
    if owner.pid_ns not in (0, own.pid_ns):
        return True  # containers may share a host's name, not its pids; nothing but the record keeps two of them apart
    try:
        return check_owner(owner) is not Liveness.DEAD
    except (ValueError, TypeError):  # of a wrong type
        return True
