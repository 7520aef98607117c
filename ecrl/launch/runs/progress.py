"""What a run is doing, derived from its events, and the observers that are notified of it."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from ecrl.config.run import RunSpec
from ecrl.records.failure_checks import is_ending
from ecrl.records.manifest.store import Row
from ecrl.records.result import Result

_RATE_WINDOW_NS = 15 * 10**9


@dataclass
class RunProgress:
    """The progress of a run.

    doing: starting, training, replaying, saving, restarting, restoring, draining or stopping. A new step ends `saving`,
    so a checkpoint that a background engine saves does not hide the training. step: the last step of rank 0. furthest:
    the highest step of any attempt. pids, steps: of the ranks of the newest attempt, as far as they have started and
    made a step. longest_step_s: of rank 0 in that attempt, without its first; None: too few steps to tell.
    launcher_pid: None: not known. silent_s: seconds since the newest record; whoever follows the run sets it.
    """

    total: int
    doing: str = "starting"
    step: int = 0
    furthest: int = 0
    loss: float | None = None
    restarts: int = 0
    failures: int = 0
    saved: int = 0  # committed checkpoints
    world_size: int = 0
    pids: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)
    longest_step_s: float | None = None
    launcher_pid: int | None = None
    silent_s: float | None = None
    _attempt: int = 0
    _recent: deque[tuple[int, int]] = field(default_factory=deque)  # (stamp, step) of rank 0 in the newest attempt

    def note(self, attempt: int, rank: int, event: dict[str, Any]) -> None:
        """Add one event."""
        kind = event["e"]
        if attempt > self._attempt:
            self._attempt, self.doing, self.longest_step_s = attempt, "restarting", None
            self.pids.clear()
            self.steps.clear()
            self._recent.clear()
        self.restarts = max(self.restarts, attempt)
        if kind == "failure":
            self.failures += 1
            self.doing = "restarting" if is_ending(event) else self.doing
        elif kind == "committed":
            self.saved += 1
        if attempt < self._attempt:
            return
        if kind == "start":
            self.pids[rank], self.world_size = event["pid"], event["world_size"]
        elif kind == "step":
            self.steps[rank] = event["s"]
        if rank != 0:
            return
        match kind:
            case "ready":
                self.doing = "restoring"
            case "restored":
                self.step, self.doing = event["step"], "training"
                self._recent.clear()
                self._recent.append((event["t"], self.step))
            case "step":
                self._note_step(event)
            case "loss":
                self.loss = event["loss"]
            case "save":
                self.doing = "saving"
            case "final" | "end" | "drain":
                self.doing = "stopping"

    def _note_step(self, event: dict[str, Any]) -> None:
        self.step = event["s"]
        self.doing = "replaying" if self.step <= self.furthest else "training"
        self.furthest = max(self.furthest, self.step)
        if self.step == self.total:
            self.doing = "draining"
        if event.get("loss") is not None:
            self.loss = event["loss"]
        self._note_rate(event["t"])

    def _note_rate(self, t: int) -> None:
        # By the events' own stamps: whoever looks late or seldom sees the same speed.
        if len(self._recent) > 1 and (made := self.step - self._recent[-1][1]) > 0:
            took_s = (t - self._recent[-1][0]) / 1e9 / made
            self.longest_step_s = max(took_s, self.longest_step_s or took_s)
        self._recent.append((t, self.step))
        while len(self._recent) > 2 and t - self._recent[1][0] > _RATE_WINDOW_NS:
            self._recent.popleft()

    @property
    def steps_per_s(self) -> float | None:
        """Steps per second of the current attempt over the last 15 seconds; None: too few steps to tell."""
        if len(self._recent) < 2 or self._recent[-1][0] <= self._recent[0][0]:
            return None
        (t0, s0), (t1, s1) = self._recent[0], self._recent[-1]
        return (s1 - s0) / ((t1 - t0) / 1e9)


@dataclass
class Totals:
    """The progress of the campaign.

    run_s: expected seconds of the run that starts now. left_s: expected seconds of the runs that have not started,
    considering that several run at the same time. Both come from measured runs and are None without any.
    """

    suites: int
    suites_done: int = 0
    runs: int = 0
    runs_done: int = 0
    left_s: float | None = None
    run_s: float | None = None


class Observer(Protocol):
    """Receives the progress of a campaign. The loop that supervises workers calls it: methods must return at once."""

    def note(self, text: str) -> None:
        """A line of text for every kind of observer."""

    def suite_started(self, row: Row, totals: Totals) -> None:
        """A suite starts or continues."""

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """A run's launcher is about to be started."""

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Called about twenty times a second; the progress may be unchanged."""

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """A run has ended. result: None: it was interrupted."""

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """A suite has its new status."""


class SilentObserver:
    """An observer that ignores every call."""

    def note(self, text: str) -> None: ...
    def suite_started(self, row: Row, totals: Totals) -> None: ...
    def run_started(self, spec: RunSpec, totals: Totals) -> None: ...
    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None: ...
    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None: ...
    def suite_finished(self, row: Row, totals: Totals) -> None: ...
