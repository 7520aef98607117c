"""Ends all processes of a run or campaign, in whatever session they are.

torchrun puts each rank into a session of its own, so no signal to one group reaches all of them. A run's processes are
found as descendants of its launcher and by the marker in their environment.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import psutil

from ecrl.errors import EcrlError
from ecrl.launch.system.process_identity import RUN_MARKER, find_campaign_pids, find_marked_pids, get_start_ticks
from ecrl.launch.system.wait import Wait
from ecrl.units import format_count

GRACE_S = 5.0  # between SIGTERM and SIGKILL
_SOON_S = 2.0  # most processes end sooner; a person has asked for the end and watches
_POLL_S = 0.02
_KILL_PATIENCE_S = 30.0  # a process in uninterruptible I/O dies only when the I/O ends


class ExitWait:
    """Waits until `poll` returns an exit code.

    fd: readable when the process has ended; it wakes the wait at once. None: the wait polls. The descriptor is closed
    by `close`.
    """

    def __init__(self, poll: Callable[[], int | None], fd: int | None) -> None:
        self._poll = poll
        self._fd = fd

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, or None if there is none after `timeout_s`."""
        if self._fd is None:
            deadline = time.monotonic() + timeout_s
            while self._poll() is None and time.monotonic() < deadline:
                time.sleep(min(0.005, timeout_s))
        else:
            import select

            select.select([self._fd], [], [], timeout_s)
        return self._poll()

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def open_exit_fd(pid: int) -> int | None:
    """A descriptor that becomes readable when the process has ended. None: the kernel does not support it."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # an older kernel


def end_run(pid: int, folder: Path, *, stop_now: Callable[[], bool]) -> None:
    """End a run's root process, its descendants, and every process with the run's marker.

    The caller must still wait for the root process. stop_now: called repeatedly; True skips the rest of the grace
    period.

    Raises:
        EcrlError: a process does not end after SIGKILL.
    """
    members = _descendants(pid) + _processes(find_marked_pids(RUN_MARKER, folder))
    _end(members, lambda: _processes(find_marked_pids(RUN_MARKER, folder)), stop_now)


def end_leftovers(folder: Path, stop_now: Callable[[], bool] = lambda: False) -> int:
    """End the processes that an exited launcher left of its run; returns how many there were.

    stop_now: see `end_run`.
    """
    left = find_marked_pids(RUN_MARKER, folder)
    if left:
        _end(_processes(left), lambda: _processes(find_marked_pids(RUN_MARKER, folder)), stop_now)
    return len(left)


def end_orphans(campaign: Path, say: Callable[[str], None] = lambda _text: None, former: Collection[int] = ()) -> int:
    """End every process of the campaign in this folder: workers whose ecrl has died. Returns how many there were.

    say: shows what takes long. former: see `find_campaign_pids`.
    """
    pids = find_campaign_pids(campaign, former)
    if pids:
        stop_now = watch_end(f"{format_count(len(pids), 'orphaned process', 'orphaned processes')} to end", say)
        _end(_processes(pids), lambda: _processes(find_campaign_pids(campaign, former)), stop_now)
    return len(pids)


def watch_end(
    what: str, say: Callable[[str], None], now: Callable[[], bool] = lambda: False, first_s: float | None = None
) -> Callable[[], bool]:
    """A `stop_now` that says what is waited for, since its first call. now: whether to skip the rest of the grace
    period. first_s: when to speak first."""
    wait: Wait | None = None

    def stop_now() -> bool:
        nonlocal wait
        said = f"{what}; whoever has not {GRACE_S:.0f} s after SIGTERM is killed"
        wait = wait or Wait(lambda: said, say, _SOON_S if first_s is None else first_s)
        wait.look()
        return now()

    return stop_now


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        launcher = psutil.Process(pid)
        return [launcher, *launcher.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _processes(pids: list[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # ended since it was listed
            found.append(psutil.Process(pid))
    return found


def _end(members: list[psutil.Process], rest: Callable[[], list[psutil.Process]], stop_now: Callable[[], bool]) -> None:
    """Send SIGTERM, wait up to GRACE_S, then send SIGKILL until none of `members` and `rest()` lives."""
    if not stop_now():
        _signal(members, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while any(map(_alive, members)) and time.monotonic() < deadline and not stop_now():
        time.sleep(_POLL_S)
    deadline, left = time.monotonic() + _KILL_PATIENCE_S, set(members)
    # `rest` finds processes that were started meanwhile. They are kept in `left`: an ending process shows no marker.
    while left := {p for p in {*left, *rest()} if _alive(p)}:
        if time.monotonic() > deadline:
            pids = ", ".join(sorted(str(p.pid) for p in left))
            raise EcrlError(
                "ECRL-505",
                f"processes {pids} did not end {_KILL_PATIENCE_S:.0f} s after SIGKILL (stuck in I/O?).\n"
                "End them by hand, then type the resume command.",
            )
        stop_now()  # it may have something to say
        _signal(left, signal.SIGKILL)
        time.sleep(_POLL_S)


def _signal(members: Iterable[psutil.Process], signum: signal.Signals) -> None:
    for process in members:
        with contextlib.suppress(psutil.NoSuchProcess):  # psutil compares start times: a reused pid is safe
            process.send_signal(signum)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and get_start_ticks(process.pid) is not None
