"""`status --watch`: the loop and its keys."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ecrl.cli.ui.lines import format_lines
from ecrl.cli.ui.messages import can_draw
from ecrl.launch.system.signals import HANDLED
from ecrl.launch.views.snapshot import CampaignWatch

_QUIT_KEYS = ("q", "Q", "\x03", "\x1b", "\x04")


def watch(source: CampaignWatch, interval_s: float, as_json: bool) -> None:
    """Show the campaign repeatedly until the user leaves. Without a terminal: until nothing is left to run."""
    try:
        if not as_json and can_draw(sys.stdout) and sys.stdin.isatty():
            _watch_on_screen(source, interval_s)
        else:
            _watch_as_lines(source, interval_s, as_json)
    except KeyboardInterrupt:
        return  # Ctrl-C ends the display and stops nothing else
    finally:
        source.close()


def _watch_as_lines(source: CampaignWatch, interval_s: float, as_json: bool) -> None:
    while True:
        snapshot = source.take_snapshot()
        print(json.dumps(snapshot.to_json()) if as_json else "\n".join(format_lines(snapshot)), flush=True)
        if snapshot.is_over:
            return
        time.sleep(interval_s)


def _watch_on_screen(source: CampaignWatch, interval_s: float) -> None:
    from ecrl.cli.ui.campaign_view import CampaignView, open_live

    with open_live(sys.stdout, full_screen=True) as live, _open_keys() as pressed:
        while True:
            view = CampaignView(source.take_snapshot(), f"every {interval_s:g} s, q quits")
            live.start()  # does nothing if already started
            live.update(view, refresh=True)
            if pressed(interval_s) in _QUIT_KEYS:
                return


class _Keys:
    """Reads single keys from the terminal. A resize of the window ends the wait with an empty key.

    wake: the reading end of a pipe to which every signal's number is written.
    """

    def __init__(self, wake: int) -> None:
        self._wake = wake

    def __call__(self, timeout_s: float) -> str:
        ready, _, _ = select.select([sys.stdin, self._wake], [], [], timeout_s)
        for signum in os.read(self._wake, 4096) if self._wake in ready else b"":
            if signum == signal.SIGINT:
                return "q"
            if signum != signal.SIGWINCH:
                raise SystemExit(128 + signum)
        if sys.stdin not in ready:
            return ""
        data = os.read(sys.stdin.fileno(), 64)
        # Read whole, so that an escape sequence, e.g. of an arrow key, is no lone Escape. End of file: the terminal is
        # closed.
        return data.decode(errors="replace") if data else "q"


@contextmanager
def _open_keys() -> Iterator[_Keys]:
    """Read keys without waiting for Enter while the block runs. Restores the terminal, also after a signal."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def note(signum: int, _frame: FrameType | None) -> None:
        if signum != signal.SIGWINCH:  # a second one ends the command even if a look at the files does not return
            signal.signal(signum, end)

    def end(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    # A handler runs between two instructions of Python, so that of a signal that comes just before `select` begins to
    # wait runs after the wait; and an exception that it raises is lost while a destructor runs. The byte that the
    # interpreter writes to the pipe as the signal comes ends the wait and is not lost.
    waking = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handled = (signal.SIGWINCH, *HANDLED)
    old = {signum: signal.signal(signum, note) for signum in handled}
    try:
        tty.setcbreak(descriptor)
        yield _Keys(reading)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for signum, handler in old.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(waking)
        os.close(reading)
        os.close(writing)
