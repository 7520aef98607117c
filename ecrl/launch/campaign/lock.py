"""The lease of a prefix: only one ecrl at a time works on it."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EXIT_BUG, EXIT_OK, PrefixHeldError
from ecrl.launch.system.file_lock import describe_record, is_locked, take_lock
from ecrl.launch.system.process_identity import Liveness, check_owner, get_current_owner
from ecrl.records.manifest.store import Owner, utc_now
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic

_HOLDER_TIMEOUT_S = 0.2  # `is_held` takes the lock for an instant, which must not count as holding it


@dataclass(frozen=True)
class Holder:
    """The ecrl that works on a prefix. since: when it began. logs: its stderr is the campaign's log, not a terminal.

    waits_for: what keeps it from its next suite, and by whom it is held; '': nothing.
    """

    owner: Owner
    since: str
    logs: bool
    waits_for: str = ""


@contextmanager
def prefix_lease(paths: CampaignPaths) -> Iterator[None]:
    """Hold the prefix while the block runs. The kernel releases it if this process dies.

    `last_exit_code` returns how the block ended.

    Raises:
        PrefixHeldError: another ecrl holds the prefix; the message names that process.
    """

    paths.root.mkdir(parents=True, exist_ok=True)
    fd = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if (lock := take_lock(paths.lock, fd, _HOLDER_TIMEOUT_S)) is None:
        raise PrefixHeldError(
            "ECRL-309",
            f"prefix {paths.prefix!r} is held by another ecrl ({_read_holder(paths)}).\n"
            f"Expected no other ecrl. Watch it with: ecrl matrix status {paths.options}",
        )
    try:
        told = dataclasses.asdict(get_current_owner()) | {"since": utc_now(), "logs": _stderr_is(paths.log)}
        try:
            write_atomic(_sidecar(paths), json.dumps(told).encode())
        except OSError as error:  # the lock alone counts, and `clean` must work on a full disk
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        yield
        _sidecar(paths).unlink(missing_ok=True)
    except BaseException as error:
        with contextlib.suppress(OSError):  # on a full disk the holder's record stays, which means a failure
            write_atomic(_sidecar(paths), json.dumps({"exit_code": getattr(error, "exit_code", EXIT_BUG)}).encode())
        raise
    finally:
        lock.release()


def last_exit_code(paths: CampaignPaths) -> int:
    """How the last holder of the prefix ended.

    0: it did everything it was asked to. Otherwise the exit code of its error, or 128 + SIGTERM if it was killed before
    it could record one.
    """
    try:
        told = json.loads(_sidecar(paths).read_text())
        return int(told.get("exit_code", 128 + signal.SIGTERM))
    except FileNotFoundError:
        return EXIT_OK
    except (OSError, ValueError, TypeError, AttributeError):
        return 128 + signal.SIGTERM


def is_held(paths: CampaignPaths) -> bool:
    """Whether an ecrl holds the prefix now."""
    # Opened for reading alone: the folder may be another user's, or on a read-only disk.
    try:
        fd = os.open(paths.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return is_locked(paths.lock, fd)
    finally:
        os.close(fd)


def holder(paths: CampaignPaths) -> Holder | None:
    """The holder of the prefix. None: no process holds it, or the holder has not recorded yet who it is."""
    if not is_held(paths):
        return None
    try:
        told = json.loads(_sidecar(paths).read_text())
        since, logs, waits_for = told.pop("since"), told.pop("logs"), str(told.pop("waits_for", ""))
        owner = Owner(**told)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (
        None if check_owner(owner) is Liveness.DEAD else Holder(owner, since, logs, waits_for)
    )  # the record of a killed holder


def record_wait(paths: CampaignPaths, waits_for: str) -> None:
    """Record what the holder of the prefix, this process, waits for; '': it goes on. See `Holder.waits_for`."""
    # Another command only shows it: a full disk, or a folder that was removed, stops no campaign.
    with contextlib.suppress(OSError, ValueError):
        told = json.loads(_sidecar(paths).read_text())
        write_atomic(_sidecar(paths), json.dumps(told | {"waits_for": waits_for}).encode())


def _sidecar(paths: CampaignPaths) -> Path:
    return paths.lock.with_suffix(".holder")


def _stderr_is(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(2), path.stat())
    except OSError:  # stderr is closed, or the log does not exist
        return False


def _read_holder(paths: CampaignPaths) -> str:
    """A description of the holder, or the lock's path while the holder has not recorded who it is."""
    told = holder(paths)
    advice = describe_record(paths.lock)
    if told is None:
        return advice or f"its lock is {paths.lock}"
    return f"pid {told.owner.pid} on {told.owner.host}, since {told.since}{'. ' * bool(advice)}{advice}"
