"""The time that a run has taken, without the pauses of the ecrl that follows it."""

import time
from typing import NamedTuple

from ecrl.records.clock import now_ns

PAUSE_S = 2.0  # between two looks, which are 0.05 s apart by design; a busy disk or terminal delays one by less


class Pause(NamedTuple):
    """A time in which ecrl did not run: stopped (Ctrl-Z), swapped out or starved. Stamps of `records.clock`."""

    begin: int
    end: int


class RunClock:
    """Counts a run's own seconds from look to look. `s`: the seconds until the last look, without pauses."""

    def __init__(self) -> None:
        self.s = 0.0
        # The monotonic clock stands still while the machine sleeps, which is no pause of ecrl alone.
        self._looked, self._looked_ns = time.monotonic(), now_ns()

    def look(self) -> Pause | None:
        """Count the time since the last look, or return it if it was a pause."""
        now, stamp = time.monotonic(), now_ns()
        passed, pause = now - self._looked, Pause(self._looked_ns, stamp)
        self._looked, self._looked_ns = now, stamp
        if passed > PAUSE_S:
            return pause
        self.s += passed
        return None
