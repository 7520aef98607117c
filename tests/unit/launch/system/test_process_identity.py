"""Processes of which a part has ended, and processes that may not be looked at."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.launch.system.process_group import end_run
from ecrl.launch.system.process_identity import (
    Liveness,
    check_owner,
    get_current_owner,
    get_start_ticks,
    iterate_environments,
    list_exiting_pids,
)

# As after a SIGKILL: the first thread has exited, and another one goes on, with all memory and files; here for good.
HEADLESS = """
import ctypes, os, signal, sys, threading
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def rest():
    while open("/proc/self/stat").read().rpartition(")")[2].split()[0] != "Z":
        pass
    os.write(1, b"on\\n")
    sys.stdin.read()
threading.Thread(target=rest).start()
exit_thread = {"x86_64": 60}.get(os.uname().machine, 93)
ctypes.CDLL(None).syscall(exit_thread, 0)
"""


@pytest.fixture
def headless() -> "Iterator[subprocess.Popen[bytes]]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HEADLESS], start_new_session=True, **pipes) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout.readline() == b"on\n"
            yield process
        finally:
            process.kill()


def test_a_process_is_gone_when_its_last_thread_is(headless: "subprocess.Popen[bytes]") -> None:
    ticks = get_start_ticks(headless.pid)
    assert ticks is not None
    assert check_owner(replace(get_current_owner(), pid=headless.pid, start_ticks=ticks)) is Liveness.ALIVE
    assert headless.pid in list_exiting_pids()
    headless.kill()
    os.waitid(os.P_PID, headless.pid, os.WEXITED | os.WNOWAIT)  # a zombie of one thread: nothing is left of it
    assert get_start_ticks(headless.pid) is None
    assert headless.pid not in list_exiting_pids()


def test_whose_first_thread_has_exited_is_ended_with_the_run(
    headless: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    end_run(headless.pid, tmp_path, stop_now=lambda: True)
    assert headless.wait() == -9


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> int:
    """The pid of another user's process as a /proc mounted with hidepid=1 shows it: there, and unreadable."""
    pid = os.getppid()
    real_read, real_stat = Path.read_bytes, os.stat

    def read(path: Path) -> bytes:
        if path.parent == Path("/proc", str(pid)):
            raise PermissionError(1, "Operation not permitted", str(path))
        return real_read(path)

    def stat(path: str, **options: Any) -> os.stat_result:
        found = real_stat(path, **options)
        if path != f"/proc/{pid}":
            return found
        return os.stat_result((*found[:4], os.getuid() + 1, *found[5:]))

    monkeypatch.setattr(Path, "read_bytes", read)
    monkeypatch.setattr(os, "stat", stat)
    return pid


def test_what_may_not_be_read_is_passed_over_and_is_not_dead(hidden: int) -> None:
    assert hidden not in list_exiting_pids()
    assert hidden not in dict(iterate_environments("PATH"))
    assert check_owner(replace(get_current_owner(), pid=hidden)) is Liveness.UNKNOWN


def test_a_process_that_is_not_even_listed_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_pid: int, _signum: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)  # hidepid=2: the kernel knows it, /proc does not show it
    assert check_owner(replace(get_current_owner(), pid=2**30)) is Liveness.UNKNOWN
    monkeypatch.undo()
    assert check_owner(replace(get_current_owner(), pid=2**30)) is Liveness.DEAD
    assert check_owner(replace(get_current_owner(), pid=2**40)) is Liveness.DEAD
