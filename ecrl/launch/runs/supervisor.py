"""Supervises one run: starts its launcher, follows its records, ends it if needed, and writes its result."""

import contextlib
import errno
import os
import shutil
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
from ecrl.launch.runs.run_clock import Pause, RunClock
from ecrl.launch.runs.silence import compute_quiet_limit_s, describe_ranks, describe_silence, quote_last_line
from ecrl.launch.runs.warnings import RunWarnings
from ecrl.launch.system.environment import list_inputs
from ecrl.launch.system.free_space import find_full_folder
from ecrl.launch.system.process_group import watch_end
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import Reminder
from ecrl.records import machine
from ecrl.records.clock import now_ns, real_minus_boot_ns
from ecrl.records.manifest.store import utc_now
from ecrl.records.paths import CHECKPOINTS, RunPaths
from ecrl.records.places import find_place, list_places, make_places, remove_checkpoints
from ecrl.records.recorder import Recorder
from ecrl.records.result import Result
from ecrl.units import format_duration

_POLL_S = 0.05
_LEAVE_S = 10.0  # for a launcher to end after its ranks have


@dataclass(frozen=True)
class Supervisor:
    """Supervises runs, one at a time.

    facts: the probe's facts about this machine, recorded with every result. timeout_s, stall_timeout_s: a run that
    takes longer, or records nothing for longer, is ended and has failed; None: no limit.
    """

    launcher: Launcher
    campaign: Path
    observer: Observer
    stop: StopRequest
    facts: dict[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    stall_timeout_s: float | None = None

    def run(self, run: Run) -> Result | None:
        """Make a run in its new folder and return its result. None: ecrl was asked to stop; the workers have ended.

        Raises:
            OSError: the folder cannot be written, by ecrl or by the run; the workers have ended.
        """
        paths = run.paths
        paths.logs.mkdir(parents=True)
        make_places(paths, run.spec.checkpoint.places)
        disk = find_place(paths)
        started_at, pressure = utc_now(), machine.read_pressure(disk)
        run.spec.write(paths.spec)
        findings, killed_before = RunEvidence(), read_oom_kills()
        with MachineMonitor(self.campaign, self._gpus(run)) as beside:
            ending = self._supervise(run, findings)
        if ending is None:
            return None
        ending = replace(ending, oom_kills=read_oom_kills() - killed_before)
        result = outcome.decide_result(run, findings, ending, started_at, utc_now())
        if result.get("failure", {}).get("kind") == DISK_FULL:  # a full disk is no result of the run
            full = find_full_folder(paths.folder, list_places(paths))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(full))
        after = machine.read_pressure(find_place(paths))  # the one from before may be gone
        facts = (
            machine.read_facts()
            | {"filesystem": machine.file_system(paths.folder), "environment": list_inputs()}
            | {"checkpoint_disk": machine.describe_disk(disk)}
            | self.facts
            | beside.get_facts()
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
                if self.launcher.prepare(run, self.campaign, log, _Preparation(self, run).is_given_up):
                    recorder.event("prepared", t0=begun)
                if self.stop:
                    return None
                spawned = now_ns()
                handle = self.launcher.start(run, self.campaign, log)
            cleared.callback(handle.close)
            stop_now = watch_end(f"{run.name}: its processes to end", self.observer.note, lambda: self.stop.now)
            # From here on, an error of ecrl (a full disk, a bug) must not leave workers behind.
            cleared.callback(_stop_if_alive, handle)
            recorder.event("spawn", t=spawned, pid=handle.owner.pid, command=handle.command)
            watch = _RunMonitor(self, run, handle, findings, recorder)
            cleared.callback(watch.close)
            reason: str | None = None
            while (code := handle.wait(_POLL_S)) is None and reason is None:
                reason = watch.poll()
            asked = bool(self.stop)
            paused = watch.count_time()  # else a pause in which the run ended would be lost
            if code is None:
                code = handle.stop(stop_now)
            reaped = now_ns()
            handle.end_leftovers(stop_now)
            watch.poll_last()
            ended = findings.find_end(run.spec.train.nproc)
            # The end is when it happened, not when ecrl saw it: ecrl may have been stopped meanwhile (Ctrl-Z).
            seen = reaped if paused is None else max(paused.begin, findings.newest_t)
            recorder.event("exit", t=seen if ended is None else ended, code=code, seen=reaped)
        # A run that ended by itself keeps its result. One that did not may have died of the signal that ecrl got, as a
        # scheduler sends it to every process of a job.
        return None if asked and ended is None else RunEnd(code, reason or "")


class _Preparation:
    """Says what takes long while a launcher prepares itself for runs."""

    def __init__(self, supervisor: Supervisor, run: Run) -> None:
        self._supervisor, self._run = supervisor, run
        self._clock, self._reminder = RunClock(), Reminder()

    def is_given_up(self) -> bool:
        """Whether to stop preparing. Called repeatedly."""
        self._clock.look()
        if self._reminder.is_due(self._clock.s):
            told = f"its launcher imports PyTorch, for {format_duration(self._clock.s)} so far"
            self._supervisor.observer.note(f"{self._run.name}: {told}; {quote_last_line(self._run.paths)}")
        return bool(self._supervisor.stop)


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
        self._progress = RunProgress(total=run.spec.train.steps, launcher_pid=handle.owner.pid)
        self._remarks = RunWarnings()
        self._clock = RunClock()
        self._newest_s = 0.0  # of the run's own time: when the newest event was read
        self._reminder = Reminder()

    def count_time(self) -> Pause | None:
        """Count the run's own time, and record a pause of ecrl. Returns the pause that has just ended, if any."""
        if (pause := self._clock.look()) is not None:
            self._recorder.event("paused", t=pause.end, t0=pause.begin)
        return pause

    def poll(self) -> str | None:
        """Process what is new. A text ends the run: it is the reason, or '' if the records or the signal give one."""
        self.count_time()
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
        if self._findings.find_end(self._run.spec.train.nproc) is not None:
            return "" if self._silent_s > _LEAVE_S else None  # a launcher that hangs after the end changes nothing
        self._remind()
        return self._find_timeout()

    @property
    def _silent_s(self) -> float:
        return self._clock.s - self._newest_s

    def _find_timeout(self) -> str | None:
        """Why the run must be ended now: it takes too long, or stands still for too long."""
        timeout_s, stall_timeout_s = self._supervisor.timeout_s, self._supervisor.stall_timeout_s
        seen = self._progress
        if timeout_s is not None and self._clock.s > timeout_s:
            return f"not done after {timeout_s:g} s (--timeout), at step {seen.step} of {seen.total}"
        if stall_timeout_s is not None and self._silent_s > stall_timeout_s:
            return f"no step for {stall_timeout_s:g} s (run.stall_timeout_s): {describe_ranks(seen)}"
        return None

    def _remind(self) -> None:
        """Say what an unusually silent run waits for, and when it goes on."""
        spoken = self._reminder.has_spoken
        if self._reminder.is_due(self._silent_s, compute_quiet_limit_s(self._progress)):
            self._say([describe_silence(self._progress, self._silent_s, self._run.paths)])
        elif spoken and not self._reminder.has_spoken:
            self._say(["goes on"])

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
        self._progress.silent_s = self._silent_s
        self._supervisor.observer.run_progress(self._run.spec, self._progress)

    def _read_events(self) -> None:
        for attempt, rank, event in self._events.read():
            self._newest_s = self._clock.s
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
    _move(folder, aside)
    remove_checkpoints(RunPaths(aside))
    return aside


def _move(folder: Path, aside: Path) -> None:
    """Rename a run's folder, also where its file system cannot: it may lie in a layer of a container's image."""
    try:
        folder.rename(aside)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # A copy that is killed has a name that `clean` knows. Checkpoints would be removed next; links go along.
        partial = aside.with_name(f".{aside.name}.{os.getpid()}.tmp")
        unwanted = None if RunPaths(folder).checkpoints.is_symlink() else shutil.ignore_patterns(CHECKPOINTS)
        shutil.copytree(folder, partial, symlinks=True, ignore=unwanted)
        partial.rename(aside)
        shutil.rmtree(folder)
