"""Ending processes as a group, gently first."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.launch.system import process_group
from ecrl.launch.system.process_group import ExitWait, end_leftovers, end_run, open_exit_fd
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
# A child in a session of its own, as torchrun's ranks are.
PARENT = (
    "import subprocess, sys, time\n"
    "program = \"import time; print('up', flush=True); time.sleep(60)\"\n"
    "child = subprocess.Popen([sys.executable, '-c', program], start_new_session=True, stdout=subprocess.PIPE)\n"
    "child.stdout.readline()\n"
    "print('on', flush=True); time.sleep(60)"
)


@pytest.fixture
def processes() -> "Iterator[list[subprocess.Popen[bytes]]]":
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def started(processes: "list[subprocess.Popen[bytes]]", program: str, folder: Path) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, RUN_MARKER: str(folder)},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    return process


def test_a_run_ends_with_everything_it_started(processes: "list[subprocess.Popen[bytes]]", tmp_path: Path) -> None:
    process = started(processes, PARENT, tmp_path)
    assert len(find_marked_pids(RUN_MARKER, tmp_path)) == 2
    end_run(process.pid, tmp_path, stop_now=lambda: False)
    assert process.wait() == -15
    assert find_marked_pids(RUN_MARKER, tmp_path) == []


def test_what_a_dead_launcher_left_is_found_by_its_marker(
    processes: "list[subprocess.Popen[bytes]]", tmp_path: Path
) -> None:
    process = started(processes, PARENT, tmp_path)
    process.kill()
    process.wait()
    assert end_leftovers(tmp_path) == 1
    assert end_leftovers(tmp_path) == 0


def test_whoever_ignores_sigterm_is_killed_after_the_grace_period(
    processes: "list[subprocess.Popen[bytes]]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_group, "GRACE_S", 0.1)
    process = started(processes, STUBBORN, tmp_path)
    end_run(process.pid, tmp_path, stop_now=lambda: False)
    assert process.wait() == -9


def test_in_a_hurry_there_is_no_grace_period(processes: "list[subprocess.Popen[bytes]]", tmp_path: Path) -> None:
    process, begun = started(processes, STUBBORN, tmp_path), time.monotonic()
    end_run(process.pid, tmp_path, stop_now=lambda: True)
    assert process.wait() == -9
    assert time.monotonic() - begun < process_group.GRACE_S


@pytest.mark.parametrize("pidfd", [True, False])
def test_waiting_for_an_exit_works_with_and_without_pidfds(pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not pidfd:

        def absent(_pid: int) -> int:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", absent)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        wait = ExitWait(process.poll, open_exit_fd(process.pid))
        assert wait.wait(0.01) is None
        process.communicate(b"\n")
        assert wait.wait(10) == 0
        wait.close()


def test_the_patience_before_sigkill_says_what_it_is_for(
    processes: "list[subprocess.Popen[bytes]]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(process_group, "GRACE_S", 0.4)
    monkeypatch.setattr(process_group, "_SOON_S", 0.1)
    process = started(processes, STUBBORN, tmp_path)
    stop_now = process_group.watch_end("the ranks to end", said.append)
    time.sleep(0.2)  # a run: it is no part of the wait for its end
    stop_now()
    assert said == []
    end_run(process.pid, tmp_path, stop_now=stop_now)
    assert process.wait() == -9
    assert any("waiting for the ranks to end; whoever has not" in text and "is killed (for " in text for text in said)


def test_what_a_launcher_left_and_does_not_end_is_spoken_of_and_ended_at_once_if_asked(
    processes: "list[subprocess.Popen[bytes]]", tmp_path: Path
) -> None:
    asked = itertools.count()
    process, begun = started(processes, STUBBORN, tmp_path), time.monotonic()
    assert end_leftovers(tmp_path, lambda: next(asked) > 3) == 1
    assert process.wait() == -9
    assert time.monotonic() - begun < process_group.GRACE_S
