"""Planned failures. They are decided before the launch and strike in order, each once over all attempts."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecrl import plugins
from ecrl.failures.base import FailureKind, Strike
from ecrl.records.clock import now_ns
from ecrl.records.failure_checks import RESTART_PHASES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PlannedFailure:
    """A failure of `kind` that strikes `rank` at the place given by phase and at (or after_s).

    records/failure_checks.py defines these keys. index: the failure's place in the run's plan. ranks: "all" or a list;
    `rank` strikes these ranks too. options: the kind's options that differ from their legacy values.
    """

    index: int
    kind: str
    rank: int
    at: int | None = None
    phase: str = "step"
    after_s: float | None = None
    ranks: str | list[int] | None = None
    ends_attempt: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


class AttemptContext:
    """The facts that an injector looks up when it needs them. This class knows no other rank and no earlier attempt."""

    def get_pids(self, ranks: str | list[int]) -> list[int]:
        """The process ids of these ranks ("all": of every rank) in this attempt, without the caller's own."""
        return []

    def get_first_step_ns(self) -> int | None:
        """The stamp at which the run's first step began, on the records' clock. None before that step has ended."""
        return None


def read_plan(entries: Iterable[Mapping[str, Any]]) -> tuple[PlannedFailure, ...]:
    """The plan in the entries of `run.json`."""
    return tuple(PlannedFailure(**entry) for entry in entries)


class Injector:
    """Strikes this rank at the planned places. Any thread may report that a place is reached.

    A failure is armed once every failure before it that ends an attempt has struck. A later failure with a smaller
    step therefore strikes while that step is replayed. Within an attempt, failures strike in the order of their steps;
    config/failure_schedule.py refuses a schedule that lists a failure that ends no attempt before one of an earlier
    step.
    """

    def __init__(
        self,
        plan: Iterable[PlannedFailure],
        rank: int,
        already_fired: Iterable[int],
        announce: Callable[[PlannedFailure, int], None],
        attempt_context: AttemptContext | None = None,
        clock: Callable[[], int] = now_ns,
        complete: Callable[[], None] = lambda: None,
    ) -> None:
        """Arm the failures of `rank` that can strike in this attempt.

        already_fired: the indices that struck in earlier attempts, on any rank. announce(failure, step): called right
        before a failure strikes; must leave a record that survives SIGKILL. complete: waits until the device has done
        all queued steps; called before a failure strikes after a step.
        """
        fired = set(already_fired)
        own = [f for f in _list_armed([f for f in plan if f.index not in fired]) if f.rank == rank]
        self._kinds: dict[str, FailureKind] = {f.kind: plugins.load("failure kind", f.kind) for f in own}
        # Keyed by place: a step without a failure costs one lookup in a dictionary that is empty in most runs, and if
        # two threads reach one place, only one of them takes its failures.
        self._armed: dict[tuple[str, int | None], list[PlannedFailure]] = {}
        self._timed = [failure for failure in own if failure.after_s is not None]
        for failure in own:
            if failure.after_s is None:
                place = (failure.phase, None if failure.phase in RESTART_PHASES else failure.at)
                self._armed.setdefault(place, []).append(failure)
        self._announce = announce
        self._attempt_context = attempt_context or AttemptContext()
        self._clock = clock
        self._complete = complete
        self._begun_ns: int | None = None

    def on_loss(self, step: int, loss: "torch.Tensor") -> "torch.Tensor":
        """The loss of `step`, changed by the failures planned there."""
        for kind, strike in self._take("loss", step):
            loss = kind.on_loss(strike, loss)
        return loss

    def on_gradients(self, step: int, model: "torch.nn.Module") -> None:
        """Strike if a failure is planned after the backward pass of `step`."""
        for kind, strike in self._take("gradients", step):
            kind.on_gradients(strike, model)

    def on_update(self, step: int, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer") -> None:
        """Strike if a failure is planned after the update of `step`. The update is queued, not necessarily done."""
        for kind, strike in self._take("update", step):
            kind.on_update(strike, model, optimizer)

    def after_step(self, step: int) -> None:
        """Strike if a failure is planned right after `step`, or for an instant that has passed."""
        if not (self._armed or self._timed):
            return
        if ("step", step) in self._armed:
            self._complete()
        for kind, strike in self._take("step", step):
            kind.on_phase(strike)
        while self._timed and self._is_past(self._timed[0].after_s):
            self._complete()
            kind, strike = self._begin(self._timed.pop(0), step)
            kind.on_phase(strike)

    def on_phase(self, phase: str, step: int) -> None:
        """Strike if a failure is planned for `phase` (in a checkpoint's phases: of the checkpoint of `step`)."""
        for kind, strike in self._take(phase, step):
            kind.on_phase(strike)

    def _take(self, phase: str, step: int) -> Iterator[tuple[FailureKind, Strike]]:
        """The failures that strike at a place. Each is announced right before it is yielded."""
        for failure in self._armed.pop((phase, None if phase in RESTART_PHASES else step), ()):
            yield self._begin(failure, step)

    def _begin(self, failure: PlannedFailure, step: int) -> tuple[FailureKind, Strike]:
        kind = self._kinds[failure.kind]
        options = {name: told["legacy"] for name, told in kind.options.items()} | dict(failure.options)
        peers = self._attempt_context.get_pids(failure.ranks) if failure.ranks is not None else []
        self._announce(failure, step)
        return kind, Strike(step, failure.phase, options, peers)

    def _is_past(self, after_s: float | None) -> bool:
        assert after_s is not None
        if self._begun_ns is None:
            self._begun_ns = self._attempt_context.get_first_step_ns()
        return self._begun_ns is not None and self._clock() >= self._begun_ns + round(after_s * 1_000_000_000)


class NoFailures(Injector):
    """An injector without planned failures."""

    def __init__(self) -> None:
        super().__init__((), 0, (), lambda _failure, _step: None)


def _list_armed(waiting: list[PlannedFailure]) -> list[PlannedFailure]:
    """The failures that can strike in this attempt: up to and including the first one that ends it."""
    lasting = list(itertools.takewhile(lambda failure: not failure.ends_attempt, waiting))
    return [*lasting, *waiting[len(lasting) :][:1]]
