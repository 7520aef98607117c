"""`status --watch` on a terminal: keys, another size, and the terminal as it was afterwards."""

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecrl.cli.ui import watch
from tests.unit.launch.stand_in import StandIn, control, request

_PATIENCE_S = 40.0
_OPEN, _CLOSE = "\x1b[?1049h", "\x1b[?1049l"


class Watched:
    """The command on a terminal of this size."""

    def __init__(self, results: Path, columns: int, **environment: str) -> None:
        self.master, self.terminal = os.openpty()
        self.resize(columns)
        self.before = termios.tcgetattr(self.terminal)
        told = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        command = [sys.executable, "-m", "ecrl", "matrix", "status", "--prefix", "exp", "--results", str(results)]
        self.process = subprocess.Popen(
            [*command, "--watch", "--interval", "30"],
            env=told | {"TERM": "xterm-256color"} | environment,
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
        )
        self.shown = ""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def wait_for(self, text: str) -> None:
        """Until the terminal was sent it."""
        deadline = time.monotonic() + _PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, f"never shown: {text!r}, but: {self.shown!r}"
            if select.select([self.master], [], [], 0.5)[0]:
                self.shown += os.read(self.master, 65536).decode()

    def leave(self, how: Callable[["Watched"], object]) -> int:
        """Its exit code after this; what it still shows is kept."""
        how(self)
        code = self.process.wait(_PATIENCE_S)
        while select.select([self.master], [], [], 0)[0]:
            self.shown += os.read(self.master, 65536).decode()
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for descriptor in (self.master, self.terminal):
            with contextlib.suppress(OSError):
                os.close(descriptor)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    control(StandIn()).plan(request(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture
def watched(results: Path) -> Iterator[Watched]:
    found = Watched(results, 80)
    yield found
    found.close()


def lines(text: str) -> list[str]:
    """What was sent, without what moves the cursor and colours it."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).replace("\r", "").split("\n")


@pytest.mark.parametrize(
    ("how", "code"),
    [
        (lambda w: os.write(w.master, b"q"), 0),
        (lambda w: os.write(w.master, b"\x1b"), 0),
        (lambda w: w.process.send_signal(signal.SIGINT), 0),
        (lambda w: w.process.send_signal(signal.SIGTERM), 143),
    ],
    ids=["q", "escape", "SIGINT", "SIGTERM"],
)
def test_whoever_leaves_finds_the_terminal_as_it_was(
    watched: Watched, how: Callable[[Watched], object], code: int
) -> None:
    watched.wait_for("Go on with: ecrl matrix resume --prefix exp")
    assert termios.tcgetattr(watched.terminal) != watched.before  # keys come as they are pressed
    assert watched.leave(how) == code
    assert termios.tcgetattr(watched.terminal) == watched.before
    assert watched.shown.count(_OPEN) == 1
    assert _CLOSE in watched.shown[watched.shown.index(_OPEN) :]
    assert "\x1b[?25h" in watched.shown[watched.shown.index("\x1b[?25l") :]  # the cursor is there again
    assert "Traceback" not in watched.shown


@pytest.fixture
def _terminal_as_stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    master, terminal = os.openpty()
    with os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield
    os.close(master)


@pytest.mark.usefixtures("_terminal_as_stdin")
@pytest.mark.parametrize(("signum", "told"), [(signal.SIGINT, "q"), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_that_comes_before_the_wait_for_a_key_ends_that_wait(signum: signal.Signals, told: object) -> None:
    before = [signal.getsignal(number) for number in (signum, signal.SIGWINCH)]
    with watch._open_keys() as pressed:
        assert signal.set_wakeup_fd(-1) >= 0, "a handler alone may run after the wait that it is to end"
    with watch._open_keys() as pressed:
        signal.raise_signal(signal.SIGWINCH)
        assert pressed(_PATIENCE_S) == ""
        signal.raise_signal(signum)
        if told == "q":
            assert pressed(_PATIENCE_S) == "q"
        else:
            with pytest.raises(SystemExit, match=str(told)):
                pressed(_PATIENCE_S)
        with pytest.raises(SystemExit, match=str(128 + signum)):
            signal.raise_signal(signum)  # a second one does not wait for anything
    assert [signal.getsignal(number) for number in (signum, signal.SIGWINCH)] == before


def test_another_size_is_drawn_at_once_and_an_arrow_key_is_no_escape(watched: Watched) -> None:
    watched.wait_for("Go on with: ecrl matrix resume --prefix exp")
    assert max(map(len, lines(watched.shown))) == 80
    watched.shown = ""
    watched.resize(50)
    watched.process.send_signal(signal.SIGWINCH)
    watched.wait_for("Go on with: ecrl matrix resume")
    assert max(map(len, lines(watched.shown[watched.shown.index("\x1b[H") :]))) == 50
    watched.shown = ""
    os.write(watched.master, b"\x1b[A")
    watched.wait_for("Go on with: ecrl matrix resume")
    assert watched.process.poll() is None


def test_no_color_is_honoured(results: Path) -> None:
    watched = Watched(results, 80, NO_COLOR="1")
    watched.wait_for("Go on with: ecrl matrix resume --prefix exp")
    assert watched.leave(lambda w: os.write(w.master, b"q")) == 0
    watched.close()
    assert not re.search(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[0-9;]*m", watched.shown)


def test_a_terminal_that_can_draw_nothing_gets_lines(results: Path) -> None:
    watched = Watched(results, 80, TERM="dumb")
    watched.wait_for("exp: 0/6 runs; 2 suites (2 pending)")
    assert watched.leave(lambda w: w.process.send_signal(signal.SIGINT)) == 0
    watched.close()
    assert "\x1b" not in watched.shown
