"""Signal handling: handlers only set a flag, which the loop that owns the workers checks."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ecrl.errors import EcrlError

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StoppedError(EcrlError):
    """ecrl was asked to stop and handed over cleanly. exit_code: 128 + the signal's number."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__("ECRL-312", message)
        self.exit_code = 128 + signum


class StopRequest:
    """The stop that signals have requested so far.

    signum: the first signal, None without one. beside: another request, which stops as well what this one stops.
    """

    def __init__(self, beside: "StopRequest | None" = None) -> None:
        self.signum: int | None = None
        self._now = False
        self._beside = beside

    def __bool__(self) -> bool:
        return self.signum is not None or bool(self._beside)

    @property
    def now(self) -> bool:
        """Whether a second signal came, so the workers get no grace period."""
        return self._now or (self._beside is not None and self._beside.now)

    def request(self, signum: int) -> None:
        """Record a signal. A repeated SIGHUP is not a second request, because a terminal sends several."""
        if self.signum is None:
            self.signum = signum
        elif signum != signal.SIGHUP:
            self._now = True

    def raise_if_requested(self, hint: str) -> None:
        """Raise `StoppedError` if a stop is requested. For use while no worker runs."""
        if self.signum is not None:
            raise StoppedError(self.signum, f"stopped by {signal.Signals(self.signum).name}. {hint}")


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM and SIGHUP into a `StopRequest` while the block runs.

    An ignored SIGHUP stays ignored, as nohup asks; workers have sessions of their own.
    """
    request = StopRequest()

    def note(signum: int, _frame: FrameType | None) -> None:
        request.request(signum)

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    taken = [signum for signum in HANDLED if not (ignored and signum == signal.SIGHUP)]
    before = {signum: signal.signal(signum, note) for signum in taken}
    try:
        yield request
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def exit_on_interrupt(hint: str = "Nothing was started; type the same command again.") -> Iterator[StopRequest]:
    """Raise `StoppedError` inside the block as soon as SIGINT, SIGTERM or SIGHUP comes, at any point of it.

    The yielded request stays empty; it is for code that also runs under `handle_signals`. An ignored SIGHUP stays
    ignored, as nohup asks.
    """

    def end(signum: int, _frame: FrameType | None) -> None:
        raise StoppedError(signum, f"stopped by {signal.Signals(signum).name}. {hint}")

    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    taken = [signum for signum in HANDLED if not (ignored and signum == signal.SIGHUP)]
    before = {signum: signal.signal(signum, end) for signum in taken}
    try:
        yield StopRequest()
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
