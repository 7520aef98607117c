"""How far a training run under test has come, for whoever is to be late."""

import threading

WAIT_TIMEOUT_S = 30.0  # how long something is held back for what must come at once


class Progress:
    """How far training has come: `forward` and `update` of a step are queued, a slot is acquired for it, or the
    persister holds it. Whoever is to be late waits here."""

    def __init__(self) -> None:
        self._reached: dict[str, int] = {}
        self._changed = threading.Condition()
        self._over = False
        self.overdue = 0  # waits for what must come at once and did not

    def note_reached(self, what: str, step: int) -> None:
        with self._changed:
            self._reached[what] = step
            self._changed.notify_all()

    def wait_for(self, what: str, step: int, patience_s: float | None = None) -> bool:
        """Wait until `what` is reached for `step`, or training is over. patience_s: it may well not come."""
        with self._changed:
            limit_s = patience_s or (WAIT_TIMEOUT_S if not self.overdue else 0.0)
            came = self._changed.wait_for(lambda: self._over or self._reached.get(what, 0) >= step, limit_s)
            self.overdue += not came and patience_s is None
            return came and not self._over

    def end(self) -> None:
        """Nothing more will be reached."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def no_delay() -> None:
    """No delay."""
