"""Draws a campaign on a terminal with rich: below the lines of `matrix run`, or full-screen for `status --watch`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ecrl.cli.ui.campaign_rest import fill_rest
from ecrl.cli.ui.lines import (
    describe_activity,
    describe_devices,
    describe_run,
    format_step,
    format_time_left,
    format_time_to_go,
    headline,
)
from ecrl.cli.ui.tables import STYLES
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.snapshot import Failure, RunningSuite, Snapshot
from ecrl.units import format_duration

_RUN_BAR_SHARE = 4  # of the terminal's columns
_INLINE_SHARE = 0.75  # at most this share of the terminal's lines; the rest shows what has ended
_WARNINGS = 2  # shown of a damaged manifest; `status` prints all
_Lines = list[list[Segment]]


class CampaignView:
    """Renders a snapshot of a campaign in at most the lines that the terminal has. hint: what the keys do."""

    def __init__(self, snapshot: Snapshot, hint: str) -> None:
        self._snapshot, self._hint = snapshot, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        def render(parts: list[RenderableType]) -> _Lines:
            return console.render_lines(Group(*parts), options.update(height=None), pad=False) if parts else []

        shown = self._snapshot
        room = options.height or int(options.max_height * _INLINE_SHARE)
        head, foot = render([*self._draw_head(options.max_width)]), render(_draw_foot(shown))
        room -= len(head) + len(foot)
        failures = render(_draw_failures(shown.failures))
        failures = failures[: max(room // 2, room - _height(shown.running, 2))]
        running = render(_draw_running(shown.running, room - len(failures), options.max_width))
        room -= len(running) + len(failures)
        rest = render([_draw_line(text, style) if text else Text("") for text, style in fill_rest(shown, room)])
        for line in [*head, *running, *rest, *failures, *foot]:
            yield from line
            yield Segment.line()

    def _draw_head(self, width: int) -> Iterator[RenderableType]:
        shown = self._snapshot
        title = Text(headline(shown), style="bold")
        yield _draw_line(title.append(f"   {shown.at[11:19]} UTC, {self._hint}", style="not bold dim"))
        total = max(shown.runs_total, 1)
        told = Text(f" {shown.runs_done / total:.0%} {format_time_left(shown)}", no_wrap=True, overflow="ellipsis")
        bar = Table.grid()
        bar.add_row(ProgressBar(total, shown.runs_done, width=max(width // 3, width - len(told) - 1)), told)
        yield bar
        counts = [
            Text(f"{number} {name}", style=STYLES.get(name, "")) for name, number in shown.counts.items() if number
        ]
        yield _draw_line(Text("   ").join(counts))
        if shown.waits_for:
            yield _draw_line(f"waiting for {shown.waits_for}", "yellow")
        yield from (_draw_line(f"warning: {text}", "yellow") for text in shown.warnings[:_WARNINGS])


def _draw_line(text: str | Text, style: str = "", indent: int = 0) -> RenderableType:
    """Exactly one line, cut at the width of the terminal."""
    line = Text(text, style=style) if isinstance(text, str) else text
    line.no_wrap, line.overflow = True, "ellipsis"
    # Padded, because `print` ignores the `no_wrap` of a bare Text.
    return Padding(line, (0, 0, 0, indent), expand=False)


def _height(running: list[RunningSuite], each: int) -> int:
    """The number of lines for the running suites, with one empty line above them."""
    return each * len(running) + 1 if running else 0


def _draw_running(running: list[RunningSuite], room: int, width: int) -> list[RenderableType]:
    """The running suites. Each has a progress bar if there is room for all the bars."""
    if not running or room < _height(running[:1], 2):
        return []
    draw = _draw_suite if _height(running, 3) <= room else _draw_suite_in_short
    fit = len(running) if _height(running, 2) <= room else (room - 2) // 2  # one line: how many more there are
    parts: list[RenderableType] = [Text("")]
    for each in running[:fit]:
        parts += [_draw_suite_title(each), *draw(each, width)]
    if rest := len(running) - fit:
        parts.append(_draw_line(f"and {rest} more", "dim", indent=2))
    return parts


def _draw_suite_title(suite: RunningSuite) -> RenderableType:
    title = Text(suite.row.suite_id, style="cyan")
    facts = [] if suite.run is None else [f"run {suite.row.runs_done + 1}/{suite.row.runs_total}"]
    facts += [] if suite.elapsed_s is None else [format_duration(suite.elapsed_s)]
    facts += [devices] if (devices := describe_devices(suite)) else []
    return _draw_line(title.append(f"  {', '.join(facts)}", style="default"), indent=2)


def _draw_suite(suite: RunningSuite, width: int) -> list[RenderableType]:
    run = suite.run
    if run is None or suite.liveness is Liveness.DEAD:
        return _draw_suite_in_short(suite)
    told = "  ".join(filter(None, (f"{run.variant} seed{run.seed}", format_step(run), format_time_to_go(run))))
    bar = Table.grid(padding=(0, 1))
    seen = run.progress
    bar.add_row(
        ProgressBar(seen.total, seen.step, width=width // _RUN_BAR_SHARE), Text(told, no_wrap=True, overflow="ellipsis")
    )
    return [Padding(bar, (0, 0, 0, 4), expand=False), _draw_line(describe_activity(suite, run), indent=4)]


def _draw_suite_in_short(suite: RunningSuite, _width: int = 0) -> list[RenderableType]:
    return [_draw_line(describe_run(suite), "red" if suite.liveness is Liveness.DEAD else "", indent=4)]


def _draw_failures(failures: list[Failure]) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(""), _draw_line("last failures", "bold")] if failures else []
    for failure in failures:
        parts.append(_draw_line(failure.suite_id, "red", indent=2))
        parts.append(Padding(Text(failure.reason), (0, 0, 0, 4)))
        if failure.log:  # folded, not cut, so that it can be copied
            parts.append(Padding(Text(failure.log, style="dim", overflow="fold"), (0, 0, 0, 4)))
    return parts


def _draw_foot(shown: Snapshot) -> list[RenderableType]:
    if shown.is_over:
        return [Text(""), _draw_line(f"Tables and report: ecrl report {shown.options}")]
    if not shown.running or any(each.liveness is Liveness.DEAD for each in shown.running):
        return [Text(""), _draw_line(f"Go on with: ecrl matrix resume {shown.options}")]
    return []


@contextmanager
def open_live(stream: TextIO, *, full_screen: bool) -> Iterator[Live]:
    """A live display on a terminal. The block starts it; its end removes the display and restores the screen."""
    live = Live(
        console=Console(file=stream),
        screen=full_screen,
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
        vertical_overflow="crop",
    )
    try:
        yield live
    finally:
        live.stop()
