"""`wandb`: a run of Weights & Biases for each run, offline unless WANDB_MODE says otherwise.

`wandb sync results/mine/trackers/wandb/wandb/offline-run-*` sends them.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read at import; a lab on a cluster calls nobody
os.environ.setdefault("WANDB_SILENT", "true")

import wandb

from ecrl.trackers.tracker import Point, RunLog, TrackedRun, Tracker, TrackerPlugin

EXTRA = ("wandb", "wandb")


class _Run(RunLog):
    """A session of wandb; a restart adds another one to the same run, by its id."""

    def __init__(self, folder: Path, run: TrackedRun) -> None:
        self._rows = run.points  # a row that comes again has its old number, of which wandb keeps one
        self._run = wandb.init(
            project=run.campaign,
            id=hashlib.sha256(f"{run.campaign_id}/{run.name}".encode()).hexdigest()[:12],
            name=run.name,
            group=run.labels["suite"],
            config=dict(run.parameters),
            dir=os.environ.get("WANDB_DIR") or folder,
            reinit="create_new",
            resume=None if os.environ["WANDB_MODE"] == "offline" else "allow",
            # What wandb samples of the machine costs time beside the ranks; each result.json has ecrl's own facts.
            settings=wandb.Settings(
                console="off", disable_git=True, disable_code=True, x_disable_stats=True, x_disable_machine_info=True
            ),
        )
        self._run.define_metric("*", step_metric="train_step")

    def log(self, points: Sequence[Point]) -> None:
        """See `RunLog.log`."""
        for point in points:
            row = {"train_step": point.step, "_timestamp": point.unix_s, **point.values}
            self._run.log(row, step=self._rows)
            self._rows += 1

    def commit(self) -> None:
        """See `RunLog.commit`. What was logged is with wandb's own process, which outlives this one."""

    def end(self, *, completed: bool) -> None:
        """See `RunLog.end`."""
        self._run.finish(exit_code=0 if completed else 1)

    def close(self) -> None:
        """See `RunLog.close`. To wandb the run is preempted, and will be resumed."""
        self._run.mark_preempting()
        self._run.finish(exit_code=1)


class Wandb(Tracker):
    """One project, named as the campaign."""

    def __init__(self, folder: Path, _campaign: str) -> None:
        self._folder, mode = folder, os.environ["WANDB_MODE"]
        self.address = os.environ.get("WANDB_DIR", "") if mode == "offline" else mode
        self.where = f"{os.environ.get('WANDB_DIR') or folder} ({mode})"

    def open_run(self, run: TrackedRun) -> RunLog:
        """See `Tracker.open_run`."""
        return _Run(self._folder, run)


PLUGIN = TrackerPlugin(description="runs of Weights & Biases, offline by default", make=Wandb)
