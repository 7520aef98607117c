"""Warnings about problems that do not end a run: given once when they happen, and summed up at the end."""

from collections.abc import Iterator
from typing import Any


class RunWarnings:
    """Collects the warnings of one run from its events."""

    def __init__(self) -> None:
        self._lost: set[tuple[int, int]] = set()  # (attempt, step)
        self._rerouted: set[tuple[int, int]] = set()

    def get_warnings(self, attempt: int, rank: int, event: dict[str, Any]) -> Iterator[str]:
        """The warnings that an event causes."""
        if event["e"] == "persist_failed":
            if not self._lost:
                yield f"checkpoint {event['s']} could not be kept: {event['reason']}; training goes on"
            # Every rank reports a lost checkpoint; it counts once.
            self._lost.add((attempt, event["s"]))
        elif event["e"] == "rerouted":
            if not self._rerouted:
                yield f"checkpoint {event['s']} goes to {event['to']}: {event['reason']}"
            self._rerouted.add((attempt, event["s"]))
        elif event["e"] == "restored" and rank == 0 and attempt > 0:
            for passed in event.get("passed_over", ()):
                yield f"checkpoint {passed['step']} was passed over: {passed['reason']}"
            if event["step"] == 0:
                yield "there is no checkpoint to restore: training restarts at step 0"

    def get_final_warnings(self) -> Iterator[str]:
        """The warnings to give at the end of the run."""
        if len(self._lost) > 1:
            yield f"{len(self._lost)} checkpoints could not be kept"
        if len(self._rerouted) > 1:
            yield f"{len(self._rerouted)} checkpoints were written to a fallback"
