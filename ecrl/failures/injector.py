"""Planned failures: decided before launch, struck in their order, once each, whatever the attempt."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ecrl import plugins
from ecrl.failures.base import FailureKind
from ecrl.records.clock import now_ns
from ecrl.records.failure_checks import RESTART_PHASES


@dataclass(frozen=True)
class PlannedFailure:
    """`kind` strikes `rank` where phase and at (or after_s) say: records/failure_checks.py defines them.

    index: the failure's place in its run's plan. A failure is armed once all before it have struck, so a
    later one with a smaller step strikes while that step is replayed. ranks: "all" or several, for which
    `rank` strikes.
    """

    index: int
    kind: str
    rank: int
    at: int | None = None
    phase: str = "step"
    after_s: float | None = None
    ranks: str | list[int] | None = None


class AttemptContext:
    """What an injector must find out when it is needed. This one knows of nobody else and of no earlier attempt."""

    def get_pids(self, ranks: str | list[int]) -> list[int]:
        """The processes of these ranks ("all": of every rank) in this attempt, the caller's own left out."""
        return []

    def get_first_step_ns(self) -> int | None:
        """When the run's first step began, on the records' clock; None before it ended."""
        return None


def read_plan(entries: Iterable[Mapping[str, Any]]) -> tuple[PlannedFailure, ...]:
    """The plan as `run.json` holds it."""
    return tuple(PlannedFailure(**entry) for entry in entries)


class Injector:
    """Strikes this rank when its turn in the plan comes. Whatever thread comes by a place may report it."""

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
        """already_fired: indices that struck in earlier attempts, on any rank. announce(failure, step): called
        right before a failure strikes; must leave a record that survives SIGKILL. complete: waits until the device
        has done the steps it was given; a failure planned after a step strikes then, not when the step is queued."""
        fired = set(already_fired)
        waiting = [failure for failure in plan if failure.index not in fired]
        self._armed = waiting[0] if waiting and waiting[0].rank == rank else None
        self._announce = announce
        self._attempt_context = attempt_context or AttemptContext()
        self._clock = clock
        self._complete = complete
        self._instant_ns: int | None = None

    def after_step(self, step: int) -> None:
        """Strike if the armed failure is this rank's and planned right after `step`, or for an instant now past."""
        failure = self._armed
        if failure is None or failure.phase != "step":
            return
        if failure.at == step if failure.after_s is None else self._is_past(failure.after_s):
            self._complete()
            self._strike(failure, step)

    def on_phase(self, phase: str, step: int) -> None:
        """Strike if the armed failure is this rank's and planned for this phase (of the checkpoint of `step`)."""
        failure = self._armed
        if failure is not None and failure.phase == phase and (phase in RESTART_PHASES or failure.at == step):
            self._strike(failure, step)

    def _is_past(self, after_s: float) -> bool:
        if self._instant_ns is None:
            begun = self._attempt_context.get_first_step_ns()
            if begun is None:
                return False
            self._instant_ns = begun + round(after_s * 1_000_000_000)
        return self._clock() >= self._instant_ns

    def _strike(self, failure: PlannedFailure, step: int) -> None:
        self._armed = None
        kind: FailureKind = plugins.load("failure kind", failure.kind)
        peers = self._attempt_context.get_pids(failure.ranks) if failure.ranks is not None else []
        self._announce(failure, step)
        kind.strike(peers)
