"""Waits that are spoken of: what a silent run waits for, since when, and how often it is said."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.launch.runs import run_clock
from ecrl.launch.runs.progress import RunProgress
from ecrl.launch.runs.run_clock import RunClock
from ecrl.launch.runs.silence import describe_silence
from ecrl.launch.system.process_identity import is_stopped
from ecrl.launch.system.wait import QUIET_S
from ecrl.records.paths import RunPaths


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    found = RunPaths(tmp_path)
    found.logs.mkdir()
    return found


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def started(pids: dict[int, int], steps: dict[int, int], world_size: int = 2, step_s: float = 0.1) -> RunProgress:
    """The progress of a run whose ranks have made these steps, each of which took this long."""
    progress = RunProgress(total=20)
    for rank, pid in pids.items():
        progress.note(0, rank, {"e": "start", "t": 0, "pid": pid, "world_size": world_size})
        progress.note(0, rank, {"e": "restored", "t": 0, "step": 0})
        for step in range(1, steps.get(rank, 0) + 1):
            progress.note(0, rank, {"e": "step", "t": round(step * step_s * 1e9), "s": step})
    return progress


def test_no_rank_has_started_and_the_launcher_says_why(paths: RunPaths) -> None:
    told = describe_silence(RunProgress(total=20), 9.0, paths)
    assert told == "no rank has started for 9.00 s: the launcher runs; torchrun.log is empty"
    paths.torchrun_log.write_text("first\n[c10d] The addresses of (no-such-host, 29400)  cannot be retrieved\n\n")
    told = describe_silence(RunProgress(total=20), 9.0, paths)
    assert told.endswith("ends with: [c10d] The addresses of (no-such-host, 29400) cannot be retrieved")


def test_the_launchers_word_on_a_planned_failure_is_not_quoted(paths: RunPaths) -> None:
    reported = "E1121 23:30:12.123000 1 api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 42) of binary: x\n"
    paths.torchrun_log.write_text(reported)
    restarting = started({0: 1, 1: 2}, {})
    restarting.restarts = 1
    assert describe_silence(restarting, 9.0, paths).endswith("after restart 1")
    paths.torchrun_log.write_text(f"{reported}[c10d] no address\n")
    assert describe_silence(restarting, 9.0, paths).endswith("ends with: [c10d] no address")
    paths.torchrun_log.write_text(reported)
    restarting.restarts = 0
    assert "failed (exitcode: -9)" in describe_silence(restarting, 9.0, paths), "nobody planned that"


def test_a_stopped_rank_is_named_with_its_step(paths: RunPaths, sleeper: "subprocess.Popen[bytes]") -> None:
    sleeper.send_signal(signal.SIGSTOP)
    while not is_stopped(sleeper.pid):
        time.sleep(0.005)
    told = describe_silence(started({0: os.getpid(), 1: sleeper.pid}, {0: 4, 1: 3}), 12.0, paths)
    assert "rank 1 is stopped after step 3 of 20" in told
    assert f"kill -CONT {sleeper.pid}" in told
    assert "rank 0" not in told


@pytest.mark.parametrize(
    ("ranks", "steps", "told"),
    [
        ((0, 1), {0: 4, 1: 3}, "rank 1 is behind, after step 3 of 20; others after step 4"),
        ((0, 1), {0: 4, 1: 4}, "every rank is training, after step 4 of 20"),
        ((0, 1), {}, "every rank is training, before its first step"),
        ((0,), {0: 0}, "rank 1 has not started"),
    ],
)
def test_ranks_that_are_behind_are_named(
    paths: RunPaths, ranks: tuple[int, ...], steps: dict[int, int], told: str
) -> None:
    assert told in describe_silence(started(dict.fromkeys(ranks, os.getpid()), steps), 12.0, paths)


def test_a_run_is_silent_by_its_own_measure(paths: RunPaths) -> None:
    slow = started({0: os.getpid(), 1: os.getpid()}, {0: 4, 1: 4}, step_s=30.0)
    assert describe_silence(slow, 100.0, paths) == ""
    assert "no step for 2 m 40 s (the last ones took up to 30.0 s)" in describe_silence(slow, 160.0, paths)
    assert describe_silence(RunProgress(total=20), QUIET_S - 1, paths) == ""
    assert describe_silence(RunProgress(total=20), None, paths) == ""


def test_a_pause_of_ecrl_is_no_time_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RunClock()
    assert clock.look() is None
    counted = clock.s
    monkeypatch.setattr(run_clock, "PAUSE_S", 0.01)
    time.sleep(0.02)
    pause = clock.look()
    assert pause is not None
    assert pause.end - pause.begin > 10**7
    assert clock.s == counted
