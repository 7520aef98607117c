"""Signals where no worker is running: planning and looking may stop at once, for every file is replaced whole."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ecrl.launch.system.signals import HANDLED, StoppedError, StopRequest


@contextmanager
def exit_on_interrupt(hint: str = "Nothing was started; type the same command again.") -> Iterator[StopRequest]:
    """End the block with a `StoppedError` as soon as SIGINT, SIGTERM or SIGHUP comes, wherever it stands.

    The request that is handed in stays empty; code shared with `handle_signals` may go on checking it.
    An ignored SIGHUP stays ignored: that is what nohup asks for.
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
