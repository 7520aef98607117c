"""Planned failures: decided before launch, struck in their order, once each, whatever the attempt."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ecrl import plugins


@dataclass(frozen=True)
class PlannedFailure:
    """`kind` strikes `rank` right after step `at` has completed and its checkpoint call, if any, returned.

    index: the failure's place in its run's plan. A failure is armed once all before it have struck, so a
    later one with a smaller step strikes while that step is replayed.
    """

    index: int
    at: int
    kind: str
    rank: int


class FailureKind:
    """What happens when a planned failure strikes. One file a kind in `kinds/`, exporting one `PLUGIN`."""

    description: str

    def strike(self) -> None:
        """Do it to the calling process. May not return."""
        raise NotImplementedError


def read_plan(entries: Iterable[Mapping[str, Any]]) -> tuple[PlannedFailure, ...]:
    """The plan as `run.json` holds it."""
    return tuple(PlannedFailure(**entry) for entry in entries)


class Injector:
    """Strikes this rank when its turn in the plan comes."""

    def __init__(
        self,
        plan: Iterable[PlannedFailure],
        rank: int,
        already_fired: Iterable[int],
        announce: Callable[[PlannedFailure], None],
    ) -> None:
        """already_fired: indices that struck in earlier attempts, on any rank. announce: called right before
        a failure strikes; must leave a record that survives SIGKILL."""
        fired = set(already_fired)
        waiting = [failure for failure in plan if failure.index not in fired]
        self._armed = waiting[0] if waiting and waiting[0].rank == rank else None
        self._announce = announce

    def after_step(self, step: int) -> None:
        """Strike if the armed failure is this rank's and planned right after `step`."""
        if (failure := self._armed) is not None and failure.at == step:
            self._armed = None
            kind: FailureKind = plugins.load("failure kind", failure.kind)
            self._announce(failure)
            kind.strike()
