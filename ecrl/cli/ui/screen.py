"""A campaign on the whole terminal, drawn with rich. Only lines that have changed are sent, for slow connections."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ecrl.cli.ui.lines import describe_devices, format_run, format_time_left, headline
from ecrl.cli.ui.tables import STYLES
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.snapshot import Failure, RunningSuite, Snapshot
from ecrl.units import format_duration

_HOME, _ERASE_LINE = "\x1b[H", "\x1b[K"


class Screen:
    """The alternate screen of a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[str] = []
        self._size = (0, 0)

    def draw(self, snapshot: Snapshot, interval_s: float) -> None:
        """Show this look: send the lines that differ from those that stand there."""
        size = (self._console.width, self._console.height)
        if size != self._size:
            self._size, self._drawn = size, [""] * size[1]
            self._console.file.write(f"{_HOME}\x1b[2J")
        lines = self._lines(snapshot, interval_s)
        changes = (
            f"\x1b[{number};1H{line}{_ERASE_LINE}"
            for number, (line, before) in enumerate(zip(lines, self._drawn, strict=True), start=1)
            if line != before
        )
        self._console.file.write("".join(changes))
        self._console.file.flush()
        self._drawn = lines

    def _lines(self, snapshot: Snapshot, interval_s: float) -> list[str]:
        """Exactly as many lines as the terminal has, each at most as wide."""
        width, height = self._size
        top = self._render(_render_head(snapshot, width, interval_s))
        room = height - len(top)
        failures = self._render(_render_failures(snapshot.failures)) if snapshot.failures else []
        kept = min(len(failures), max(room // 2, room - 2 * len(snapshot.running) - 2))
        running = self._render(_render_running(snapshot.running, (room - kept - 2) // 2))
        body = [*top, *running, *failures[:kept], *self._render(_render_foot(snapshot))]
        return [*body, *[""] * height][:height]

    def _render(self, parts: list[RenderableType]) -> list[str]:
        with self._console.capture() as captured:
            for part in parts:
                self._console.print(part, crop=True)
        return captured.get().splitlines()


def _render_head(snapshot: Snapshot, width: int, interval_s: float) -> list[RenderableType]:
    title = Text(headline(snapshot), style="bold", no_wrap=True, overflow="ellipsis")
    clock = Text(f"{snapshot.at[11:19]} UTC, every {interval_s:g} s, q quits", style="dim")
    first = Table.grid(expand=True)
    first.add_column(ratio=1)
    first.add_column(justify="right", no_wrap=True)
    first.add_row(title, clock)
    bar = Table.grid(padding=(0, 1))
    share = snapshot.runs_done / max(snapshot.runs_total, 1)
    length = min(40, width // 3)
    bar.add_row(
        ProgressBar(max(snapshot.runs_total, 1), snapshot.runs_done, width=length),
        f"{share:.0%}",
        format_time_left(snapshot),
    )
    counts = Text()
    for status, number in snapshot.counts.items():
        if number:
            counts.append(f"{'   ' if counts else ''}{number} {status}", style=STYLES.get(status, ""))
    return [
        first,
        bar,
        _render_line(counts),
        *(_render_line(f"warning: {text}", "yellow") for text in snapshot.warnings[:2]),
    ]


def _render_line(text: str | Text, style: str = "", indent: int = 0) -> RenderableType:
    """Exactly one line, cut where the terminal ends. (A Text by itself would lose its `no_wrap` in `print`.)"""
    line = Text(text, style=style) if isinstance(text, str) else text
    line.no_wrap, line.overflow = True, "ellipsis"
    return Padding(line, (0, 0, 0, indent), expand=False)


def _render_running(running: list[RunningSuite], most: int) -> list[RenderableType]:
    if not running:
        return []
    parts: list[RenderableType] = [Text(""), _render_line("running", "bold")]
    for each in running[: max(most - 1, 1)]:
        line = Text(each.row.suite_id, style="cyan")
        if each.elapsed_s is not None:
            line.append(f"  run {each.row.runs_done + 1}/{each.row.runs_total}", style="default")
            line.append(f", {format_duration(each.elapsed_s)}", style="default")
        if devices := describe_devices(each):
            line.append(f", {devices}", style="default")
        dead = each.liveness is Liveness.DEAD
        parts += [_render_line(line, indent=2), _render_line(format_run(each), "red" if dead else "", indent=4)]
    if (rest := len(running) - max(most - 1, 1)) > 0:
        parts.append(_render_line(f"and {rest} more", "dim", indent=2))
    return parts


def _render_failures(failures: list[Failure]) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(""), _render_line("last failures", "bold")]
    for failure in failures:
        parts.append(_render_line(failure.suite_id, "red", indent=2))
        parts.append(Padding(Text(failure.reason), (0, 0, 0, 4)))
        if failure.log:  # whole, to be copied
            parts.append(Padding(Text(failure.log, style="dim", overflow="fold"), (0, 0, 0, 4)))
    return parts


def _render_foot(snapshot: Snapshot) -> list[RenderableType]:
    if snapshot.is_over:
        return [Text(""), _render_line(f"Tables and report: ecrl report {snapshot.options}")]
    if not snapshot.running or any(each.liveness is Liveness.DEAD for each in snapshot.running):
        return [Text(""), _render_line(f"Go on with: ecrl matrix resume {snapshot.options}")]
    return []


@contextmanager
def open_screen() -> Iterator[Screen]:
    """The alternate screen while the block runs; what was there before comes back."""
    console = Console(file=sys.stdout)
    console.set_alt_screen(True)
    console.show_cursor(False)
    try:
        yield Screen(console)
    finally:
        console.show_cursor(True)
        console.set_alt_screen(False)
