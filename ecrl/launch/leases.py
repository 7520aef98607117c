"""Who may work on a prefix: one ecrl at a time."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from ecrl.errors import PrefixHeldError
from ecrl.launch.liveness import this_process
from ecrl.records.manifest import utc_now
from ecrl.records.paths import CampaignPaths
from ecrl.storage.atomic import write_atomic


@contextmanager
def prefix_lease(paths: CampaignPaths) -> Iterator[None]:
    """Hold the prefix while the block runs; the kernel gives it back if this process dies.

    Raises:
        PrefixHeldError: another ecrl holds it; the message names that process.
    """
    paths.root.mkdir(parents=True, exist_ok=True)
    holder = paths.lock.with_suffix(".holder")
    lock = FileLock(paths.lock, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise PrefixHeldError(
            f"prefix {paths.prefix!r} is held by another ecrl ({_described(paths)}).\n"
            f"Expected to be alone. Watch it with: ecrl matrix status --prefix {paths.prefix}"
        ) from None
    try:
        told = dataclasses.asdict(this_process()) | {"since": utc_now()}
        write_atomic(holder, json.dumps(told).encode())
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _described(paths: CampaignPaths) -> str:
    """The holder as its sidecar file describes it; it may be about to write it."""
    try:
        told = json.loads(paths.lock.with_suffix(".holder").read_text())
        return f"pid {told['pid']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError):
        return f"its lock is {paths.lock}"
