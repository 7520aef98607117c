"""Follows a run of another ecrl process by its records alone: step, loss, speed, phase, time of the last record."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.launch.runs.file_tail import EventTail
from ecrl.launch.runs.progress import RunProgress
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths, RunPaths


@dataclass(frozen=True)
class LiveRun:
    """The visible state of a run.

    t, begun: time stamps of its newest event and of its start, on the clock of the host that executes it
    (`records.clock`); None: not known yet. gpus: '0,1', 'cpu', or '' if unknown.
    """

    suite_id: str
    variant: str
    seed: int
    progress: RunProgress
    gpus: str
    begun: int | None
    t: int | None

    def to_json(self) -> dict[str, Any]:
        """The run's part of the JSON that `status --watch --json` and `matrix show --json` print."""
        seen = self.progress
        return {
            "suite_id": self.suite_id, "variant": self.variant, "seed": self.seed, "phase": seen.doing,
            "step": seen.step, "steps": seen.total, "loss": seen.loss, "steps_per_s": seen.steps_per_s,
            "restarts": seen.restarts, "checkpoints": seen.saved, "gpus": self.gpus or None,
        }  # fmt: skip


class LiveFollower:
    """Follows one run's records; each poll reads only what is new."""

    def __init__(self, suite_id: str, variant: str, seed: int, steps: int, paths: RunPaths) -> None:
        self.paths = paths
        self._identity = (suite_id, variant, seed)
        self._tail = EventTail(paths)
        self._progress = RunProgress(total=steps)
        self._newest: int | None = None
        self._begun: int | None = None
        self._gpus = ""

    def poll(self) -> LiveRun:
        """The state of the run now.

        Raises:
            FileNotFoundError: the run's folder was set aside or removed.
        """
        for attempt, rank, event in self._tail.read():
            self._progress.note(attempt, rank, event)
            if isinstance(t := event.get("t"), int):
                self._newest = max(t, self._newest or t)
        if self._begun is None:
            self._begun, self._gpus, self._progress.launcher_pid = _read_spawn(self.paths)
        return LiveRun(*self._identity, self._progress, self._gpus, self._begun, self._newest)

    def close(self) -> None:
        """Close the files."""
        self._tail.close()


def find_live_run(row: Row, paths: CampaignPaths) -> tuple[str, int, RunPaths] | None:
    """The active run of a running suite as (variant, seed, paths): started and without a result. None: there is none.

    If several qualify because one was left behind, the newest is returned.
    """
    if row.run:  # recorded by the ecrl that executes it
        name, _, seeded = row.run.rpartition("/seed")
        run = paths.run(row.suite_id, name, int(seeded))
        return (name, int(seeded), run) if run.spec.exists() and not run.result.exists() else None
    begun = []
    for seed in row.seeds:
        for variant in row.variants:
            run = paths.run(row.suite_id, variant, seed)
            try:
                stamp = run.spec.stat().st_mtime_ns
            except FileNotFoundError:
                continue  # not started yet
            if not run.result.exists():
                begun.append((stamp, variant, seed, run))
    return max(begun, key=lambda found: found[0])[1:] if begun else None


def _read_spawn(paths: RunPaths) -> tuple[int | None, str, int | None]:
    """When the launcher started, its GPUs as far as this host can see, and its pid; None: not recorded yet."""
    try:
        with paths.launcher_events.open("rb") as events:
            spawn = next(event for event in map(json.loads, events) if event["e"] == "spawn")
        device = json.loads(paths.spec.read_text())["device"]
        begun, pid = int(spawn["t"]), int(spawn["pid"])
    except (OSError, ValueError, KeyError, StopIteration):
        return None, "", None  # not written yet
    if device == "cpu":
        return begun, "cpu", pid
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return begun, "", pid  # it has ended, is on another host, or is another user's
    told = dict(entry.split(b"=", 1) for entry in environment if b"=" in entry)
    mine = told.get(CAMPAIGN_MARKER.encode(), b"").decode() == str(paths.folder.resolve().parents[3])
    return begun, told.get(b"CUDA_VISIBLE_DEVICES", b"all").decode() if mine else "", pid
