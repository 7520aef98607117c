"""The progress of a training run under test. Delayed parts wait for it."""

import threading

WAIT_TIMEOUT_S = 30.0  # the longest wait for an event that must come at once


class Progress:
    """The progress of training: `forward` and `update` of a step are queued, its slot is acquired or being persisted.

    The parts that a test delays wait here.
    """

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}
        self._changed = threading.Condition()
        self._over = False
        self.overdue = 0  # waits that ended by timeout although the event must come at once

    def note_reached(self, what: str, step: int) -> None:
        with self._changed:
            self._reached[what] = step
            self._changed.notify_all()

    def wait_for(self, what: str, step: int, patience_s: float | None = None) -> bool:
        """Wait until `what` is reached for `step` or training is over.

        patience_s: the longest wait for an event that may never come; None: the event must come.
        """
        with self._changed:
            limit_s = patience_s or (WAIT_TIMEOUT_S if not self.overdue else 0.0)
            came = self._changed.wait_for(lambda: self._over or self._reached.get(what, 0) >= step, limit_s)
            self.overdue += not came and patience_s is None
            return came and not self._over

    def end(self) -> None:
        """Call when training is over. Ends all waits."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def no_delay() -> None:
    """Do nothing: the delay of a stager without delays."""
