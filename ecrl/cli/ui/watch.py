"""`status --watch`: the loop, its keys, and the lines it shows; `screen.py` draws them where there is a terminal."""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.snapshot import CampaignWatch, RunningSuite, Snapshot
from ecrl.units import format_duration

_SILENCE_WARNING_S = 15.0  # a run that records nothing for so long is worth a word
_QUIT_KEYS = ("q", "Q", "\x03", "\x1b", "\x04")


class Display(Protocol):
    """Where looks are drawn."""

    def draw(self, snapshot: Snapshot, interval_s: float) -> None:
        """Show this look."""


def watch(source: CampaignWatch, interval_s: float, as_json: bool) -> None:
    """Look again and again until somebody leaves; off a terminal, until nothing is left to run."""
    try:
        drawable = sys.stdout.isatty() and sys.stdin.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        if as_json or not drawable:
            _watch_as_lines(source, interval_s, as_json)
        else:
            _watch_on_screen(source, interval_s)
    except KeyboardInterrupt:
        return  # Ctrl-C is how people leave; nothing is stopped by it
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
    from ecrl.cli.ui.screen import open_screen

    with open_screen() as shown, _open_keys() as pressed:
        while True:
            shown.draw(source.take_snapshot(), interval_s)
            key = pressed(interval_s)
            if key in _QUIT_KEYS:
                return


class _Keys:
    """Single keys from the terminal. A resized window ends the wait, like a key that means nothing."""

    def __init__(self, wake: int) -> None:
        self._wake = wake

    def __call__(self, timeout_s: float) -> str:
        ready, _, _ = select.select([sys.stdin, self._wake], [], [], timeout_s)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if sys.stdin not in ready:
            return ""
        data = os.read(sys.stdin.fileno(), 64)
        # An escape sequence (an arrow key, say) is no lone Escape; an end of file means the terminal has gone.
        return data.decode(errors="replace") if data else "q"


@contextmanager
def _open_keys() -> Iterator[_Keys]:
    """Read keys as they are pressed while the block runs; SIGTERM and SIGHUP put the terminal right, too."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def handle_resize(_signum: int, _frame: FrameType | None) -> None:
        os.write(writing, b"w")

    def handle_end(signum: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signum)

    handlers = {signal.SIGWINCH: handle_resize, signal.SIGTERM: handle_end, signal.SIGHUP: handle_end}
    old = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
    try:
        tty.setcbreak(descriptor)
        yield _Keys(reading)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for signum, handler in old.items():
            signal.signal(signum, handler)
        os.close(reading)
        os.close(writing)


# -- what is said, whatever shows it -----------------------------------------------------------------------------


def format_lines(snapshot: Snapshot) -> Iterator[str]:
    """A look as plain lines, for logs and pipes: one for the campaign, one for each running suite."""
    yield f"{snapshot.at} {headline(snapshot)}; {format_counts(snapshot)}; {format_time_left(snapshot)}"
    for running in snapshot.running:
        devices = describe_devices(running)
        yield f"  {running.row.suite_id}: {format_run(running)}{f', {devices}' if devices else ''}"
    for failure in snapshot.failures[:1]:
        yield f"  last failure: {failure.suite_id}: {failure.reason}{f'; log: {failure.log}' if failure.log else ''}"


def headline(snapshot: Snapshot) -> str:
    """The prefix and how far it is."""
    return f"{snapshot.prefix}: {snapshot.runs_done}/{snapshot.runs_total} runs"


def format_counts(snapshot: Snapshot) -> str:
    """How many suites have each status."""
    counts = ", ".join(f"{number} {status}" for status, number in snapshot.counts.items() if number)
    return f"{sum(snapshot.counts.values())} suites ({counts})"


def format_time_left(snapshot: Snapshot) -> str:
    """When it will be done, or why that is not known."""
    if snapshot.is_over:
        return "nothing left to run"
    if snapshot.eta_s is None:
        return "ETA unknown until a run is finished"
    if not snapshot.running:
        return f"stopped, {format_duration(snapshot.eta_s)} of work left"
    return f"ETA {format_duration(snapshot.eta_s)} (from {snapshot.runs_measured} measured runs)"


def format_run(running: RunningSuite) -> str:
    """What a running suite does."""
    if running.liveness is Liveness.DEAD:
        return "its ecrl is gone; resume takes it up again"
    run = running.run
    if run is None:
        return f"between two runs ({running.row.runs_done}/{running.row.runs_total} done)"
    seen = run.progress
    facts = [f"step {seen.step}/{seen.total}", seen.doing]
    facts += [] if seen.loss is None else [f"loss {seen.loss:.4g}"]
    facts += [] if run.steps_per_s is None else [f"{run.steps_per_s:.3g} steps/s"]
    facts += [f"{seen.restarts} restart{'' if seen.restarts == 1 else 's'}"] if seen.restarts else []
    if running.silent_s is not None and running.silent_s > _SILENCE_WARNING_S:
        facts.append(f"silent for {format_duration(running.silent_s)}")
    return f"{run.variant} seed{run.seed} {', '.join(facts)}"


def describe_devices(running: RunningSuite) -> str:
    """The leased devices as the manifest names them, else those that the run's processes were given."""
    if running.row.where:
        return running.row.where
    gpus = "" if running.run is None else running.run.gpus
    return f"GPU {gpus}" if gpus and gpus != "cpu" else gpus
