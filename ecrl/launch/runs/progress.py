"""What a run is doing, derived from its events, and whom to tell."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from ecrl.config.run import RunSpec
from ecrl.records.failure_checks import is_ending
from ecrl.records.manifest.store import Row
from ecrl.records.result import Result

_RATE_WINDOW_S = 10.0


@dataclass
class RunProgress:
    """A run as it goes. doing: starting, training, replaying, saving, restarting, restoring, draining, stopping.

    step: the last step of rank 0; furthest: the highest step any attempt reached. A checkpoint that a
    background engine saves does not hide that it trains.
    """

    total: int
    doing: str = "starting"
    step: int = 0
    furthest: int = 0
    loss: float | None = None
    restarts: int = 0
    failures: int = 0
    saved: int = 0  # committed checkpoints
    _attempt: int = 0
    _recent: deque[tuple[float, int]] = field(default_factory=deque)

    def note(self, attempt: int, rank: int, event: dict[str, Any]) -> None:
        """Take one event in."""
        kind = event["e"]
        if attempt > self._attempt:
            self._attempt, self.doing = attempt, "restarting"
            self._recent.clear()
        self.restarts = max(self.restarts, attempt)
        if kind == "failure":
            self.failures += 1
            self.doing = "restarting" if is_ending(event) else self.doing
        elif kind == "committed":
            self.saved += 1
        if rank != 0 or attempt < self._attempt:
            return
        match kind:
            case "ready":
                self.doing = "restoring"
            case "restored":
                self.step, self.doing = event["step"], "training"
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
        now = time.monotonic()
        self._recent.append((now, self.step))
        while now - self._recent[0][0] > _RATE_WINDOW_S:
            self._recent.popleft()

    @property
    def steps_per_s(self) -> float | None:
        """Steps a second over the last ten seconds, as far as this attempt goes."""
        if len(self._recent) < 2 or self._recent[-1][0] - self._recent[0][0] < 0.2:
            return None
        (t0, s0), (t1, s1) = self._recent[0], self._recent[-1]
        return (s1 - s0) / (t1 - t0)


@dataclass
class Totals:
    """Where the campaign stands. left_s, run_s: seconds that the runs not begun yet (side by side, where they are),
    and the one that begins now, will take, as far as measured runs tell."""

    suites: int
    suites_done: int = 0
    runs: int = 0
    runs_done: int = 0
    left_s: float | None = None
    run_s: float | None = None


class Observer(Protocol):
    """Who watches a campaign. Called from the loop that supervises workers: must return at once."""

    def note(self, text: str) -> None:
        """One line that is worth reading whoever watches."""

    def suite_started(self, row: Row, totals: Totals) -> None:
        """A suite begins or goes on."""

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """torchrun is about to be started."""

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Something may have changed; about twenty times a second."""

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """A run has its result, or None: it was interrupted."""

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """A suite has its new status."""


class SilentObserver:
    """An observer that says nothing."""

    def note(self, text: str) -> None: ...
    def suite_started(self, row: Row, totals: Totals) -> None: ...
    def run_started(self, spec: RunSpec, totals: Totals) -> None: ...
    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None: ...
    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None: ...
    def suite_finished(self, row: Row, totals: Totals) -> None: ...
