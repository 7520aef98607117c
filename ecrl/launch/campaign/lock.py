"""Who may work on a prefix: one ecrl at a time."""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ecrl.errors import EXIT_BUG, EXIT_OK, PrefixHeldError
from ecrl.launch.system.process_identity import Liveness, check_owner, get_current_owner
from ecrl.records.manifest.store import Owner, utc_now
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic

_HOLDER_TIMEOUT_S = 0.2  # `is_held` takes the lock for an instant: that is nobody working on the prefix


@dataclass(frozen=True)
class Holder:
    """Who works on a prefix, and since when. logs: it says what it does into the campaign's log, not to a terminal."""

    owner: Owner
    since: str
    logs: bool


@contextmanager
def prefix_lease(paths: CampaignPaths) -> Iterator[None]:
    """Hold the prefix while the block runs; the kernel gives it back if this process dies. How the block has ended
    is what `last_exit_code` tells.

    Raises:
        PrefixHeldError: another ecrl holds it; the message names that process.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.lock, timeout=_HOLDER_TIMEOUT_S)
    try:
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise PrefixHeldError(
            "ECRL-309",
            f"prefix {paths.prefix!r} is held by another ecrl ({_read_holder(paths)}).\n"
            f"Expected to be alone. Watch it with: ecrl matrix status {paths.options}",
        ) from None
    try:
        told = dataclasses.asdict(get_current_owner()) | {"since": utc_now(), "logs": _stderr_is(paths.log)}
        try:
            write_atomic(_sidecar(paths), json.dumps(told).encode())
        except OSError as error:  # the lock is what counts, and `clean` is needed on a full disk most of all
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
        yield
        _sidecar(paths).unlink(missing_ok=True)
    except BaseException as error:
        with contextlib.suppress(OSError):  # nothing can be written: what is there says that it did not end well
            write_atomic(_sidecar(paths), json.dumps({"exit_code": getattr(error, "exit_code", EXIT_BUG)}).encode())
        raise
    finally:
        lock.release()


def last_exit_code(paths: CampaignPaths) -> int:
    """How the ecrl that held the prefix last has ended: 0 when it did all it was asked to, the exit code of its
    error, or that of one that was ended when it could not say."""
    try:
        told = json.loads(_sidecar(paths).read_text())
        return int(told.get("exit_code", 128 + signal.SIGTERM))
    except FileNotFoundError:
        return EXIT_OK
    except (OSError, ValueError, TypeError, AttributeError):
        return 128 + signal.SIGTERM


def is_held(paths: CampaignPaths) -> bool:
    """Whether some ecrl holds the prefix at this moment."""
    # Not a FileLock: that opens the file for writing, which one may not do in somebody else's folder or on a read-only
    # disk, and takes the lock alone; two that look at once would see each other.
    try:
        fd = os.open(paths.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def holder(paths: CampaignPaths) -> Holder | None:
    """Who holds the prefix; None: nobody, or somebody who has not said yet who it is."""
    if not is_held(paths):
        return None
    try:
        told = json.loads(_sidecar(paths).read_text())
        since, logs = told.pop("since"), told.pop("logs")
        owner = Owner(**told)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if check_owner(owner) is Liveness.DEAD else Holder(owner, since, logs)  # left by one that was killed


def _sidecar(paths: CampaignPaths) -> Path:
    return paths.lock.with_suffix(".holder")


def _stderr_is(path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(2), path.stat())
    except OSError:  # it is closed, or there is no such file
        return False


def _read_holder(paths: CampaignPaths) -> str:
    """The holder as its sidecar file describes it; it may be about to write it."""
    told = holder(paths)
    if told is None:
        return f"its lock is {paths.lock}"
    return f"pid {told.owner.pid} on {told.owner.host}, since {told.since}"
