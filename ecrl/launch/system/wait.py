"""Says what ecrl waits for, wherever a wait may last. One mechanism for runs, children, locks and other processes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ecrl.units import format_duration

QUIET_S = 8.0  # nobody should look at a screen for longer without a word
_SOON_S = 5.0  # of a wait for something else than a run, whose start alone takes as long
_OFTEN_S = 60.0  # a log of a long wait must stay short
_LOOK_S = 0.5


class Reminder:
    """Decides when to speak of a wait: every `first_s` in its first minute, and again whenever it has doubled."""

    def __init__(self) -> None:
        self._due_s: float | None = None

    def is_due(self, waited_s: float, first_s: float = QUIET_S) -> bool:
        """Whether to speak now. A wait that is shorter than the one before it is a new one."""
        if waited_s < first_s:
            self._due_s = None
            return False
        if self._due_s is not None and waited_s < self._due_s:
            return False
        self._due_s = waited_s + first_s if waited_s + first_s < _OFTEN_S else 2 * waited_s
        return True

    @property
    def has_spoken(self) -> bool:
        """Whether the present wait was spoken of."""
        return self._due_s is not None


class Wait:
    """One wait of this process. what: completes 'waiting for ...'. say: shows a line. first_s: when to speak first.

    Call `look` at least once a second meanwhile.
    """

    def __init__(self, what: Callable[[], str], say: Callable[[str], None], first_s: float = _SOON_S) -> None:
        self._what, self._say, self._first_s = what, say, first_s
        self._begun, self._reminder = time.monotonic(), Reminder()

    def look(self) -> None:
        """Say what is waited for, and for how long, if it is time to."""
        waited_s = time.monotonic() - self._begun
        if self._reminder.is_due(waited_s, self._first_s):
            self._say(f"waiting for {self._what()} (for {format_duration(waited_s)} so far)")


@contextmanager
def keep_saying(what: str, say: Callable[[str], None], first_s: float = _SOON_S) -> Iterator[None]:
    """Say what is waited for while the block runs, which itself says nothing, for example because it computes."""
    wait, done = Wait(lambda: what, say, first_s), threading.Event()

    def watch() -> None:
        while not done.wait(_LOOK_S):
            wait.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
