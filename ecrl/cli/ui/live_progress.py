"""Live progress on a terminal, drawn with rich."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ecrl.cli.ui.messages import STDERR
from ecrl.cli.ui.progress_log import describe_run_end, format_suite_position, run_name
from ecrl.cli.ui.tables import STYLES
from ecrl.config.run import RunSpec
from ecrl.launch.runs.progress import RunProgress, Totals
from ecrl.records.manifest.store import Row
from ecrl.records.result import Result
from ecrl.units import format_count, format_duration

_REDRAW_S = 0.25


@dataclass
class _ShownSuite:
    """A suite that goes on: its place among the suites, and its run, once one has begun."""

    row: Row
    place: int
    spec: RunSpec | None = None
    progress: RunProgress = field(default_factory=lambda: RunProgress(total=0))
    run_started: float = 0.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.run_started


class LiveView:
    """Matrix, suites and runs as they go, redrawn four times a second below the lines of finished runs."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._drawn = 0.0
        self._suites: dict[str, _ShownSuite] = {}  # that go on, in the order they began
        self._side_by_side = False

    def note(self, text: str) -> None:
        """A line above the live display."""
        self._live.console.print(Text(text))

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Begin to show this suite."""
        place = totals.suites_done + len(self._suites) + 1
        self._suites[row.suite_id] = _ShownSuite(row, place)
        self._side_by_side = self._side_by_side or len(self._suites) > 1

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Begin to show this run."""
        self._totals, self._drawn = totals, 0.0
        shown = self._suites[spec.suite_id]
        shown.spec, shown.run_started = spec, time.monotonic()
        self.run_progress(spec, RunProgress(total=spec.train.steps))

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Redraw, if it is time."""
        self._suites[spec.suite_id].progress = progress
        if time.monotonic() - self._drawn < _REDRAW_S:
            return
        self._drawn = time.monotonic()
        self._live.update(self._draw(self._totals), refresh=True)

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """A line that stays."""
        self._suites[spec.suite_id].spec = None
        failed = result is not None and result["outcome"] == "failed"
        suite = f"{spec.suite_id}: " if self._side_by_side else ""
        self._print(Text(suite + describe_run_end(spec, result, log, totals), style="red" if failed else ""))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """A line that stays."""
        del self._suites[row.suite_id]
        line = Text(f"{format_suite_position(row, totals)} {row.suite_id}: ")
        self._print(line.append(row.status, style=STYLES.get(row.status, "")))

    def _print(self, line: Text) -> None:
        self._live.update(Text(""), refresh=True)  # what it drew is over
        self._drawn = 0.0  # but other suites may go on
        self._live.console.print(line)

    def _draw(self, totals: Totals) -> Group:
        going_on = [(shown, shown.spec) for shown in self._suites.values() if shown.spec is not None]
        last, _ = going_on[-1]
        left = format_eta(last.progress, totals, last.elapsed_s)
        parts = [_draw_bar("matrix", totals.runs_done, totals.runs, f"{totals.runs_done}/{totals.runs} runs, {left}")]
        for shown, spec in going_on:
            seen = shown.progress
            where = f"suite {shown.place}/{totals.suites} {shown.row.suite_id}"
            told = f"step {seen.step}/{seen.total}, {format_duration(shown.elapsed_s)}"
            parts += [Text(where, overflow="ellipsis", no_wrap=True), _draw_bar("run", seen.step, seen.total, told)]
            parts.append(_describe_activity(spec, seen))
        return Group(*parts)


def _draw_bar(name: str, done: int, total: int, told: str) -> RenderableType:
    bar = Table.grid(padding=(0, 1))
    bar.add_row(f"{name:<6}", ProgressBar(total, done, width=24), told)
    return bar


def _describe_activity(spec: RunSpec, progress: RunProgress) -> Text:
    facts = [] if progress.loss is None else [f"loss {progress.loss:.4g}"]
    facts += [] if progress.steps_per_s is None else [f"{progress.steps_per_s:.3g} steps/s"]
    facts += [] if not progress.saved else [format_count(progress.saved, "checkpoint")]
    facts += [format_count(progress.restarts, "restart")]
    doing = Text(f"{run_name(spec)}: ", overflow="ellipsis", no_wrap=True)
    return doing.append(progress.doing, style="bold").append(f"  {', '.join(facts)}")


def format_eta(progress: RunProgress, totals: Totals, elapsed_s: float) -> str:
    """When everything is done, from measured run times; of this run alone while nothing was measured."""
    run_s = progress.remaining_s if totals.run_s is None else max(totals.run_s - elapsed_s, 0.0)
    if run_s is None:
        return "ETA unknown yet"
    if totals.left_s is None:
        return f"this run {format_duration(run_s)} more"
    return f"ETA {format_duration(totals.left_s + run_s)}"


@contextmanager
def open_live_view() -> Iterator[LiveView]:
    """A live display on stderr while the block runs."""
    console = Console(file=cast(IO[str], STDERR))
    with Live(
        Text(""), console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield LiveView(live)
