"""What goes wrong in a run without ending it: told as it happens, once, and summed up at the end."""

from collections.abc import Iterator
from typing import Any


class RunWarnings:
    """Follows one run's events. A checkpoint that could not be kept is told by every rank, and is one."""

    def __init__(self) -> None:
        self._lost: set[tuple[int, int]] = set()  # (attempt, step)

    def get_warnings(self, attempt: int, rank: int, event: dict[str, Any]) -> Iterator[str]:
        """What an event gives to say."""
        if event["e"] == "persist_failed":
            if not self._lost:
                yield f"checkpoint {event['s']} could not be kept: {event['reason']}; training goes on"
            self._lost.add((attempt, event["s"]))
        elif event["e"] == "restored" and rank == 0 and attempt > 0:
            for passed in event.get("passed_over", ()):
                yield f"checkpoint {passed['step']} was passed over: {passed['reason']}"
            if event["step"] == 0:
                yield "there is no checkpoint to restore: it begins again at step 0"

    def get_final_warnings(self) -> Iterator[str]:
        """What is to be said once the run is over."""
        if len(self._lost) > 1:
            yield f"{len(self._lost)} checkpoints could not be kept"
