"""Signal handling: handlers only set a flag, which the loop that owns the workers checks."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ecrl.errors import EcrlError

# Every signal that a person, a terminal or a scheduler sends to end a program and that would end it without a word.
HANDLED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
)
# A repetition of these is a second request. The others are warnings, which terminals and schedulers repeat: the kernel
# sends SIGXCPU every second.
_INSISTENT = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
# These are handled even if they are ignored at the start: a shell without job control starts `ecrl ... &` with SIGINT
# ignored, and `ecrl matrix stop --now` sends it.
_NEVER_IGNORED = (signal.SIGINT, signal.SIGTERM)


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
        """Record a signal. A second one means `now` if it is SIGINT, SIGTERM or SIGQUIT; the others are repeated."""
        if self.signum is None:
            self.signum = signum
        elif signum in _INSISTENT:
            self._now = True

    def raise_if_requested(self, hint: str) -> None:
        """Raise `StoppedError` if a stop is requested. For use while no worker runs."""
        if self.signum is not None:
            raise StoppedError(self.signum, f"stopped by {signal.Signals(self.signum).name}. {hint}")


@contextmanager
def handle_signals() -> Iterator[StopRequest]:
    """Turn the signals of `HANDLED` into a `StopRequest` while the block runs.

    An ignored SIGHUP stays ignored, as nohup asks; workers have sessions of their own.
    """
    request = StopRequest()

    def note(signum: int, _frame: FrameType | None) -> None:
        request.request(signum)

    with _take_signals(note):
        yield request


@contextmanager
def exit_on_interrupt(hint: str = "Nothing was started; type the same command again.") -> Iterator[StopRequest]:
    """Raise `StoppedError` inside the block as soon as a signal of `HANDLED` comes, at any point of it.

    The yielded request stays empty; it is for code that also runs under `handle_signals`.
    """

    def end(signum: int, _frame: FrameType | None) -> None:
        raise StoppedError(signum, f"stopped by {signal.Signals(signum).name}. {hint}")

    with _take_signals(end):
        yield StopRequest()


@contextmanager
def _take_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals of `HANDLED` while the block runs, except those that stay ignored."""
    ignored = {signum for signum in HANDLED if signal.getsignal(signum) is signal.SIG_IGN}
    taken = [signum for signum in HANDLED if signum in _NEVER_IGNORED or signum not in ignored]
    before = {signum: signal.signal(signum, handler) for signum in taken}
    try:
        yield
    finally:
        for signum, former in before.items():
            signal.signal(signum, former)
