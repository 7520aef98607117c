"""Supervises one run: starts its launcher, follows its records, ends it if needed, and writes its result."""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ecrl.launch.runs import outcome
from ecrl.launch.runs.failure_cause import DISK_FULL, read_oom_kills
from ecrl.launch.runs.file_tail import EventTail
from ecrl.launch.runs.launcher import Launcher, RunHandle
from ecrl.launch.runs.machine_monitor import MachineMonitor
from ecrl.launch.runs.outcome import RunEnd, RunEvidence
from ecrl.launch.runs.progress import Observer, RunProgress
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.warnings import RunWarnings
from ecrl.launch.system.signals import StopRequest
from ecrl.records import machine
from ecrl.records.clock import now_ns, real_minus_boot_ns
from ecrl.records.manifest.store import utc_now
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.records.result import Result

_POLL_S = 0.05


@dataclass(frozen=True)
class Supervisor:
    """Supervises runs, one at a time.

    facts: the probe's facts about this machine, recorded with every result. timeout_s: a run that takes longer is ended
    and has failed; None: no limit.
    """

    launcher: Launcher
    campaign: Path
    observer: Observer
    stop: StopRequest
    facts: dict[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None

    def run(self, run: Run) -> Result | None:
        """Make a run in its new folder and return its result. None: ecrl was asked to stop; the workers have ended.

        Raises:
            OSError: the folder cannot be written, by ecrl or by the run; the workers have ended.
        """
        paths = run.paths
        paths.logs.mkdir(parents=True)
        started_at, pressure = utc_now(), machine.read_pressure(paths.folder)
        run.spec.write(paths.spec)
        findings, killed_before = RunEvidence(), read_oom_kills()
        with MachineMonitor(self.campaign, self._gpus(run)) as beside:
            ending = self._supervise(run, findings)
        if ending is None:
            return None
        ending = replace(ending, oom_kills=read_oom_kills() - killed_before)
        result = outcome.decide_result(run, findings, ending, started_at, utc_now())
        if result.get("failure", {}).get("kind") == DISK_FULL:  # a full disk is no result of the run
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(paths.folder))
        after = machine.read_pressure(paths.folder)
        facts = (
            machine.read_facts() | {"filesystem": machine.file_system(paths.folder)} | self.facts | beside.get_facts()
        )
        return outcome.write_result(result, facts | {"pressure_before": pressure, "pressure_after": after}, paths)

    def _gpus(self, run: Run) -> tuple[str, ...] | None:
        """The GPUs that the run may use, as in CUDA_VISIBLE_DEVICES (empty: all); None on the CPU."""
        if run.spec.device == "cpu":
            return None
        return () if self.launcher.lease is None else self.launcher.lease.devices.gpus

    def _supervise(self, run: Run, findings: RunEvidence) -> RunEnd | None:
        with contextlib.ExitStack() as cleared:
            recorder = Recorder(run.paths.launcher_events)
            cleared.callback(recorder.close)
            with run.paths.torchrun_log.open("wb") as log:
                begun = now_ns()
                if self.launcher.prepare(run, self.campaign, log, lambda: bool(self.stop)):
                    recorder.event("prepared", t0=begun)
                if self.stop:
                    return None
                spawned = now_ns()
                handle = self.launcher.start(run, self.campaign, log)
            cleared.callback(handle.close)
            # From here on, an error of ecrl (a full disk, a bug) must not leave workers behind.
            cleared.callback(_stop_if_alive, handle)
            recorder.event("spawn", t=spawned, pid=handle.owner.pid, command=handle.command)
            watch = _RunMonitor(self, run, handle, findings, recorder)
            cleared.callback(watch.close)
            reason: str | None = None
            while (code := handle.wait(_POLL_S)) is None and reason is None:
                reason = watch.poll()
            interrupted = code is None and bool(self.stop)  # a run that ended by itself keeps its result
            if code is None:
                code = handle.stop(lambda: self.stop.now)
            reaped = now_ns()
            handle.end_leftovers()
            watch.poll_last()
            recorder.event("exit", t=reaped, code=code)
        return None if interrupted else RunEnd(code, reason or "")


def _stop_if_alive(handle: RunHandle) -> None:
    if handle.poll() is None:
        handle.stop(lambda: True)


class _RunMonitor:
    """Follows a run's records and its launcher's reports, and decides when to end the run."""

    def __init__(
        self, supervisor: Supervisor, run: Run, handle: RunHandle, findings: RunEvidence, recorder: Recorder
    ) -> None:
        self._supervisor = supervisor
        self._run = run
        self._handle = handle
        self._findings = findings
        self._recorder = recorder
        self._events = EventTail(handle.paths)
        self._progress = RunProgress(total=run.spec.train.steps)
        self._remarks = RunWarnings()
        self._begun = time.monotonic()

    def poll(self) -> str | None:
        """Process what is new. A text ends the run: it is the reason, or '' if the records or the signal give one."""
        self._read_events()
        self._show()
        if self._supervisor.stop:
            return ""
        if self._findings.find_crash() is not None:
            # The victim of a planned failure writes its event before the survivors write their errors, but its
            # file may have been read before that. Read again before an error counts as a crash.
            self._read_events()
            if self._findings.find_crash() is not None:
                return ""
        timeout_s = self._supervisor.timeout_s
        if timeout_s is not None and time.monotonic() - self._begun > timeout_s:
            return (
                f"not done after {timeout_s:g} s (--timeout), at step {self._progress.step} of {self._progress.total}"
            )
        return None

    def poll_last(self) -> None:
        """Process everything that was written before the end."""
        self._read_events()
        self._show()
        self._say(self._remarks.get_final_warnings())

    def close(self) -> None:
        """Close the files."""
        self._events.close()

    def _say(self, remarks: Iterable[str]) -> None:
        for remark in remarks:
            self._supervisor.observer.note(f"{self._run.name}: {remark}")

    def _show(self) -> None:
        self._supervisor.observer.run_progress(self._run.spec, self._progress)

    def _read_events(self) -> None:
        for attempt, rank, event in self._events.read():
            self._findings.note(attempt, rank, event)
            self._progress.note(attempt, rank, event)
            self._say(self._remarks.get_warnings(attempt, rank, event))
        for failed in self._handle.read_failures():
            self._findings.workers_failed.append(failed)
            # The time of the report on the records' clock; without a time in the line, the time it was read.
            t = None if failed.unix_ns is None else failed.unix_ns - real_minus_boot_ns()
            self._recorder.event("worker_failed", t=t, local_rank=failed.local_rank, exitcode=failed.exitcode)


def set_aside(paths: RunPaths) -> Path | None:
    """Rename the folder of an earlier attempt and delete its checkpoints. Returns the new folder, None if there was
    none."""
    folder = paths.folder
    if not folder.exists():
        return None
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    folder.rename(aside)
    checkpoints = RunPaths(aside).checkpoints
    if checkpoints.exists():
        shutil.rmtree(checkpoints)
    return aside
