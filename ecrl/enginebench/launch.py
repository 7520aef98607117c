"""Run a bench of checkpoint engines: start one torchrun job, follow it to its end, and remove its checkpoints."""

import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ecrl import plugins
from ecrl.config.run import RunSpec
from ecrl.enginebench.plan import BenchPlan
from ecrl.errors import EXIT_SOME_FAILED, EcrlError, unknown_name
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.file_tail import Event, EventTail
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.silence import quote_last_line
from ecrl.launch.system.process_group import watch_end
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import Wait
from ecrl.records.paths import RunPaths

_POLL_S = 0.2


class BenchFailedError(EcrlError):
    """The job ended without results."""

    exit_code = EXIT_SOME_FAILED


class BenchLauncher(Cold):
    """torchrun with the bench's worker. No failures are planned, so nothing is restarted."""

    worker = "ecrl.enginebench.worker"


@dataclass(frozen=True)
class Bench:
    """A bench that runs in a new folder. `spec.variant` is the reference. The plan names the engines."""

    plan: BenchPlan
    spec: RunSpec
    folder: Path

    def run(self, stop: StopRequest, say: Callable[[str], None]) -> None:
        """Run the bench to its end. `say` is called with a line about each segment.

        Raises:
            EcrlError: unknown names, a folder in use, or a failed job.
            StoppedError: a signal arrived.
        """
        self._check()
        paths = RunPaths(self.folder)
        paths.logs.mkdir(parents=True)
        self.spec.write(paths.spec)
        self.plan.write(self.folder)
        try:
            progress = _Progress(paths, self.plan, say)
            code = self._supervise(paths, progress, stop)
            stop.raise_if_requested("The bench has no result; type the same command again with a new --out.")
            if code != 0:
                raise BenchFailedError("ECRL-801", _explain(code, progress.faults, paths))
        finally:
            shutil.rmtree(self.folder / "engines", ignore_errors=True)

    def _check(self) -> None:
        for family, name in (("model", self.spec.model), ("dataset", self.spec.dataset)):
            if name not in plugins.names(family):
                raise EcrlError("ECRL-102", f"--{family}: {unknown_name(family, name, plugins.names(family))}")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise EcrlError("ECRL-106", f"--out: {self.folder} is not empty. Name a new folder, or remove it.")

    def _supervise(self, paths: RunPaths, progress: "_Progress", stop: StopRequest) -> int:
        with paths.torchrun_log.open("wb") as log:
            handle = BenchLauncher().start(Run(self.spec, paths), self.folder, log)
        with closing(handle), closing(progress):
            stop_now = watch_end("the job's processes to end", progress.say, lambda: stop.now)
            try:
                while (code := handle.wait(_POLL_S)) is None and not stop:
                    progress.poll()
                if code is None:
                    code = handle.stop(stop_now)
                handle.end_leftovers(stop_now)
                progress.poll()
            finally:
                if handle.poll() is None:  # after an error in ecrl, no worker must remain
                    handle.stop(lambda: True)
        return code


class _Progress:
    """Follows rank 0's segments and the errors of all ranks."""

    def __init__(self, paths: RunPaths, plan: BenchPlan, say: Callable[[str], None]) -> None:
        self.faults: list[Event] = []
        self.say = say
        self._paths, self._tail, self._rounds = paths, EventTail(paths), len(plan.order) - 1
        self._total, self._done = sum(map(len, plan.order)), 0
        self._wait = self._make_wait()

    def _make_wait(self) -> Wait:
        number = self._done + 1
        return Wait(lambda: f"segment {number}/{self._total}; {quote_last_line(self._paths)}", self.say)

    def poll(self) -> None:
        """Read the new events."""
        self._wait.look()
        for _attempt, rank, event in self._tail.read():
            if event["e"] in ("refused", "error"):
                self.faults.append(event)
            elif event["e"] == "segment" and rank == 0:
                self._done += 1
                where = f"round {event['round']}/{self._rounds}" if event["round"] else "warm-up"
                self.say(f"{self._done}/{self._total} {where}: {event['variant']}")
                self._wait = self._make_wait()

    def close(self) -> None:
        """Close the files."""
        self._tail.close()


def _explain(code: int, faults: list[Event], paths: RunPaths) -> str:
    first = min(faults, key=lambda e: int(e["t"]), default=None)
    if first is None:
        return f"torchrun ended with exit code {code}. Its log: {paths.torchrun_log}"
    if first["e"] == "refused":
        return str(first["reason"])
    return f"the bench failed: {first['type']}: {first['message']}\nLogs: {paths.logs}"
