"""Trials: a few steps of planned runs, in a folder that goes again. They tell how long a campaign will take."""

import itertools
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.runs.experiment import ExperimentKind, Lane, Machine, SuiteGroup, Trial
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.system.device_leases import Lease, try_lease
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import Wait
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_run

_MOST_TRIALS = 4  # each takes the start of the ranks and some steps
_LONGEST_S = 60.0  # of a trial that has made a step


def try_suites(
    campaign: Campaign,
    kind: ExperimentKind,
    groups: Sequence[SuiteGroup],
    machine: Machine,
    note: Callable[[str], None],
    stop: StopRequest,
) -> dict[str, float]:
    """The seconds that the runs of these suites take, by suite id. What could not be tried is left out.

    Suites whose runs differ in nothing that a step depends on share a trial. note: tells the user what takes time.

    Raises:
        StoppedError: a signal came.
    """
    trials: dict[str, Trial | None] = {}
    seconds: dict[str, float] = {}
    for group in groups:
        spec = kind.build_trial(next(campaign.runs(group.suite)).spec)
        if spec is None or (spec.hash not in trials and len(trials) == _MOST_TRIALS):
            continue
        if spec.hash not in trials:
            trials[spec.hash] = _try(campaign, kind, spec, machine, note, stop)
            stop.raise_if_requested("Nothing was started; type the same command again.")
        if (trial := trials[spec.hash]) is not None:
            seconds[group.suite.suite_id] = kind.estimate_s(group, trial)
    return seconds


def _try(
    campaign: Campaign,
    kind: ExperimentKind,
    spec: RunSpec,
    machine: Machine,
    note: Callable[[str], None],
    stop: StopRequest,
) -> Trial | None:
    """None: the devices are in use, or the run failed."""
    sets = machine.list_device_sets(campaign.matrix)
    lease = next(filter(None, map(try_lease, sets)), None)
    if lease is None:
        note("no step was tried to tell the time: the devices are in use")
        return None
    note(f"trying {spec.train.steps} steps of {spec.dataset} x {spec.model} to tell the time...")
    try:
        with tempfile.TemporaryDirectory(prefix="ecrl-trial-") as folder:
            return _run(kind, Run(spec, RunPaths(Path(folder).resolve() / "run")), lease, machine, note, stop)
    except OSError as error:
        note(f"no step could be tried to tell the time: {error.strerror}: {error.filename}")
        return None
    finally:
        lease.release()


def _run(
    kind: ExperimentKind, run: Run, lease: Lease, machine: Machine, note: Callable[[str], None], stop: StopRequest
) -> Trial | None:
    watch = _Watch(StopRequest(stop), note)
    executor = kind.make_executor(Lane(lease, run.paths.folder.parent, watch, watch.stop, machine.facts, None))
    try:
        result = executor.execute(run)
    finally:
        executor.close()
    if result is not None and result["outcome"] == "failed":
        note(f"no step could be tried to tell the time: {result['reason']}")
        return None
    return read_trial(run.paths)


def read_trial(paths: RunPaths) -> Trial | None:
    """What the records of a run tell. None: it made no step."""
    record = read_run(paths)
    begun = [event["t"] for event in record.launcher if event["e"] == "spawn"]
    steps = [event for _, rank, event in record.get_events("step") if rank == 0]
    if not begun or not steps:
        return None
    ends = [event["t"] for event in steps]
    # The first step takes longer: it makes what later ones use. Where it is the only one, it is all that is known.
    lasted = [after - before for before, after in itertools.pairwise(ends)] or [ends[0] - steps[0]["t0"]]
    step_ns = statistics.median(lasted)
    return Trial(start_s=max(ends[0] - begun[0] - step_ns, 0) / 1e9, step_s=step_ns / 1e9)


class _Watch(SilentObserver):
    """Requests `stop` when a trial has told enough for its length."""

    def __init__(self, stop: StopRequest, say: Callable[[str], None]) -> None:
        self.stop = stop
        self._begun: float | None = None
        self._progress = RunProgress(total=0)
        self._wait = Wait(lambda: f"the trial: {self._progress.doing}, step {self._progress.step}", say)

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """See `Observer.run_progress`."""
        self._progress = progress
        self._wait.look()
        if progress.step == 0:
            return
        self._begun = self._begun or time.monotonic()
        if time.monotonic() - self._begun > _LONGEST_S:
            self.stop.request(signal.SIGTERM)
