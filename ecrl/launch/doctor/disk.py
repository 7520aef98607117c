"""Findings about the results folder: its file system, locks, flushes and free space."""

import contextlib
import errno
import fcntl
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ecrl.launch.doctor.finding import OK, UNFIT, WARN, Finding, Place, Requirements
from ecrl.launch.system.file_lock import NO_LOCKS
from ecrl.launch.system.free_space import find_existing_folder, get_free_bytes
from ecrl.records import machine
from ecrl.storage.atomic import fsync_dir
from ecrl.units import format_bytes

FOLDER = "results folder"  # the check whose finding says that the folder cannot be written
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
_NETWORK = ("nfs", "cifs", "smb", "fuse", "9p", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs")
_SLOW_FSYNC_S = 0.05
_FSYNCS = 5
_MIN_FREE_BYTES, _LITTLE_FREE_BYTES = 50 * 10**6, 10**9
_MIN_FILES = 10_000
_FIRST_BYTES, _MOST_BYTES, _SPEED_S = 4_000_000, 60_000_000, 1.0  # of the measure of speed
_SKEW_S = 2.0


def check_disk(results: Path, wanted: Requirements | None) -> Iterator[Finding]:
    """All findings about the folder of the results, which need not exist yet. Leaves no file behind."""
    folder = find_existing_folder(results.absolute())
    yield _room(folder, wanted)
    yield _files(folder)
    yield from check_behaviour(results)
    yield from _speed(folder, wanted)


def check_place(place: Place, wanted: Requirements | None) -> Iterator[Finding]:
    """All findings about a folder for checkpoints, which need not exist yet. Leaves no file behind."""
    folder = find_existing_folder(place.folder)
    # A folder on the disk of another one needs nothing more than what is said of that one.
    needed = replace(wanted, disk_bytes=place.needed) if wanted is not None and place.needed else None
    yield from _name(place, [_room(folder, needed), _files(folder)])
    found = list(check_place_behaviour(place))
    yield from found
    if all(finding.check != place.key for finding in found):  # else it cannot be written
        yield from _name(place, _speed(folder, wanted))


def check_place_behaviour(place: Place) -> Iterator[Finding]:
    """Findings about the file system of a folder for checkpoints. One that takes no files is only a warning where
    other places get what it refuses."""
    yield from _name(place, (finding for finding in check_behaviour(place.folder) if finding.check != "locks"))
    if not place.folder.is_dir():
        disk = machine.describe_disk(find_existing_folder(place.folder))
        said = f"{place.folder} is not there; it would be made on {disk}"
        yield Finding("folder", WARN, said, "Check its spelling, and that its disk is mounted: findmnt")


def _name(place: Place, found: Iterable[Finding]) -> Iterator[Finding]:
    """The findings with the folder and the key that names it."""
    for finding in found:
        said = finding.found if str(place.folder) in finding.found else f"{place.folder}: {finding.found}"
        check = place.key if finding.check == FOLDER else finding.check
        state = WARN if place.spare and finding.state == UNFIT else finding.state
        advice = finding.advice.replace("--results DIR", f"--set {place.key}=DIR").replace("--results", place.key)
        yield Finding(check, state, said, advice)


def check_behaviour(results: Path) -> Iterator[Finding]:
    """Findings about the folder's file system, from trying what ecrl relies on."""
    folder = find_existing_folder(results.absolute())
    kind = machine.file_system(folder)
    yield _file_system(folder, kind)
    try:
        with tempfile.TemporaryDirectory(prefix=".ecrl-doctor-", dir=folder) as scratch:
            yield _lock(Path(scratch), kind)
            yield from _flush(Path(scratch), kind)
    except OSError as error:
        reason = error.strerror or str(error)
        yield Finding(FOLDER, UNFIT, f"{folder}: {reason}", "Name a writable folder: --results DIR")


def _file_system(folder: Path, kind: str) -> Finding:
    said = f"{folder} is on {kind}"
    if kind.startswith(_NETWORK):
        return Finding(
            "file system", WARN, said, "Persist times would be those of the network; name a local --results."
        )
    if kind in ("tmpfs", "ramfs"):
        return Finding(
            "file system",
            WARN,
            said,
            "This is memory: results are lost at the next boot, and persisting costs nothing.",
        )
    return Finding("file system", OK, said)


def _room(folder: Path, wanted: Requirements | None) -> Finding:
    free = get_free_bytes(folder)
    said = f"{format_bytes(free)} free"
    if wanted is not None:
        said += f", {format_bytes(wanted.disk_bytes)} needed by the matrix at the peak"
        if wanted.disk_bytes > free:
            return Finding("disk", UNFIT, said, "Free some space, lower checkpoint.keep, or name another --results.")
        if wanted.disk_bytes > free * 0.8:
            return Finding("disk", WARN, said, "This is just enough; other files must not grow.")
    if free < _MIN_FREE_BYTES:
        return Finding("disk", UNFIT, said, "Free some space, or name a folder on another disk with --results.")
    if free < _LITTLE_FREE_BYTES:
        return Finding(
            "disk", WARN, said, "A few checkpoints fill it. List removable files: ecrl matrix clean --prefix P"
        )
    return Finding("disk", OK, said)


def _files(folder: Path) -> Finding:
    stat = os.statvfs(folder)
    if stat.f_files and stat.f_favail < _MIN_FILES:
        return Finding(
            "inodes", WARN, f"{stat.f_favail} free", "Remove small files; to see where they are, type: df -i"
        )
    return Finding("inodes", OK, f"{stat.f_favail} free" if stat.f_files else "not counted here")


def _lock(scratch: Path, kind: str) -> Finding:
    """Take a lock and check that a second taker is refused."""
    # Only this lock keeps a second ecrl away from a campaign.
    path = scratch / "lock"
    first, second = (os.open(path, os.O_RDWR | os.O_CREAT, 0o600) for _ in range(2))
    advice = "Two ecrl could run one campaign at once: name a folder on a local disk with --results."
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return Finding("locks", UNFIT, f"{kind} gave one lock to two owners", advice)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        said = f"flock on {kind}: {error.strerror}; a record of its owner stands in for a lock"
        return Finding("locks", WARN, said, "Start ecrl on this campaign from one host alone.")
    finally:
        os.close(first)
        os.close(second)
    return Finding("locks", OK, "flock works and excludes a second owner")


def _flush(scratch: Path, kind: str) -> Iterator[Finding]:
    """Write, flush and replace a file a few times, as every change of state and every checkpoint does."""
    path, seconds = scratch / "file", []
    try:
        for _ in range(_FSYNCS):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                os.write(descriptor, b"x" * 4096)
                begun = time.monotonic()
                os.fsync(descriptor)
                seconds.append(time.monotonic() - begun)
            finally:
                os.close(descriptor)
            path.replace(scratch / "replaced")
            fsync_dir(scratch)
    except OSError as error:
        if error.errno in _DISK_FULL_ERRNOS:
            raise
        advice = "Checkpoints could be lost in a power cut: name another folder with --results."
        yield Finding("fsync", UNFIT, f"fsync on {kind}: {error.strerror}", advice)
        return
    median = statistics.median(seconds)
    slow = median > _SLOW_FSYNC_S
    advice = (
        "Slow: every checkpoint takes at least this long. Check whether the disk is busy: iostat -x 1" if slow else ""
    )
    yield Finding("fsync", WARN if slow else OK, f"{median * 1e3:.2f} ms (median of {_FSYNCS})", advice)
    skew = abs((scratch / "replaced").stat().st_mtime - time.time())
    if skew > _SKEW_S:
        advice = "The server's clock differs from this host's: synchronise both (chronyc tracking)."
        yield Finding("file times", WARN, f"{skew:.1f} s off this host's clock", advice)


def _speed(folder: Path, wanted: Requirements | None) -> Iterator[Finding]:
    """Write and flush files of growing size, for about a second or 60 MB. Nothing is said of a folder that takes none.

    The figure counts the flush: what the page cache takes is no durable checkpoint.
    """
    written, writing_s, flushing_s, size = 0, 0.0, 0.0, _FIRST_BYTES
    block = os.urandom(_FIRST_BYTES)  # a file system may compress or share blocks
    most = min(_MOST_BYTES, get_free_bytes(folder) // 10)
    try:
        with tempfile.TemporaryFile(prefix=".ecrl-doctor-", dir=folder, buffering=0) as file:
            while written + size <= most and writing_s + flushing_s < _SPEED_S:
                begun = time.monotonic()
                for _ in range(size // len(block)):
                    file.write(block)
                flushing = time.monotonic()
                os.fsync(file.fileno())
                written, size = written + size, size * 2
                writing_s += flushing - begun
                flushing_s += time.monotonic() - flushing
    except OSError:  # told by the other findings
        return
    if not written:
        yield Finding("write speed", OK, f"not measured: {format_bytes(get_free_bytes(folder))} free")
        return
    rate = written / max(writing_s + flushing_s, 1e-9)
    said = (
        f"{_format_rate(rate)} written and fsynced ({format_bytes(written)}); into the page cache alone"
        f" {_format_rate(written / max(writing_s, 1e-9))}"
    )
    if wanted is not None and wanted.checkpoint_bytes:
        said += f"; a checkpoint of {format_bytes(wanted.checkpoint_bytes)} takes about"
        said += f" {wanted.checkpoint_bytes / rate:.2g} s"
    yield Finding("write speed", OK, said)


def _format_rate(rate: float) -> str:
    return f"{rate / 1e6:,.0f} MB/s" if rate >= 1e7 else f"{rate / 1e6:.1f} MB/s"
