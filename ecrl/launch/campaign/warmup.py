"""Warm-ups: a short run before the first run on a set of devices in a session. It is discarded, whatever its end."""

import contextlib
import dataclasses
import itertools
import signal
import time
from collections.abc import Callable
from pathlib import Path

from ecrl.config.recipe import REFERENCE
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.runs.experiment import ExperimentKind, Lane
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import QUIET_S, Wait
from ecrl.records.paths import CampaignPaths, RunPaths, shorten_path
from ecrl.records.places import remove_checkpoints

WARMUP_S = 5  # of steps; the start of the ranks comes on top
MIN_CHECKPOINTS = 3


def build_warm_up(campaign: Campaign, kind: ExperimentKind, suite: Suite) -> RunSpec | None:
    """The run that warms devices up for a suite: its first variant that writes checkpoints, without failures.

    None: the matrix or the kind of experiment wants no warm-up.
    """
    if not campaign.matrix.run.warmup:
        return None
    variant = next((name for name in suite.variants if name != REFERENCE), REFERENCE)
    spec = next(run.spec for run in campaign.runs(suite) if run.spec.variant == variant)
    return kind.build_warm_up(dataclasses.replace(spec, block_order=(), block_position=0), MIN_CHECKPOINTS)


def warm_up(campaign: Campaign, kind: ExperimentKind, suite: Suite, lane: Lane) -> None:
    """Make the warm-up of a lane's devices, if there is to be one. Its failure is told and stops nothing."""
    spec = build_warm_up(campaign, kind, suite)
    if spec is None:
        return
    devices, begun = lane.lease.devices, time.monotonic()
    lane.observer.note(f"warm-up on {devices}: {spec.variant} of {suite.suite_id}, about {WARMUP_S} s, discarded")
    run = Run(spec, RunPaths(_make_folder(campaign.paths)))
    watch = _Watch(StopRequest(lane.stop), lane.observer.note)
    executor = kind.make_executor(dataclasses.replace(lane, observer=watch, stop=watch.stop))
    try:
        result = executor.execute(run)
    finally:
        executor.close()
        with contextlib.suppress(OSError):
            remove_checkpoints(run.paths)
    if result is not None and result["outcome"] == "failed":
        log = shorten_path(run.paths.folder / result["log"])
        lane.observer.note(f"warning: the warm-up on {devices} failed: {result['reason']}\n  log: {log}")
    elif not lane.stop:
        lane.observer.note(f"warm-up on {devices}: done after {time.monotonic() - begun:.0f} s")


def _make_folder(paths: CampaignPaths) -> Path:
    """Make the first numbered folder that is not there. Other lanes may look for one at the same time."""
    warmups = paths.warmups.resolve()
    warmups.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        try:
            (folder := warmups / str(number)).mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError


class _Watch(SilentObserver):
    """Requests `stop` once a run has made enough steps for long enough."""

    def __init__(self, stop: StopRequest, say: Callable[[str], None]) -> None:
        self.stop = stop
        self._began: float | None = None
        self._say, self._progress = say, RunProgress(total=0)
        self._wait = Wait(lambda: f"the warm-up: {self._progress.doing}, step {self._progress.step}", say, QUIET_S)

    def note(self, text: str) -> None:
        """See `Observer.note`."""
        self._say(f"warm-up: {text}")

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """See `Observer.run_progress`."""
        self._progress = progress
        self._wait.look()
        if progress.step == 0:
            return
        now = time.monotonic()
        self._began = self._began or now
        if progress.step >= MIN_CHECKPOINTS * spec.checkpoint_every and now - self._began >= WARMUP_S:
            self.stop.request(signal.SIGTERM)
