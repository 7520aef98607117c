"""What a terminal shows, drawn with rich: live progress, status and preview tables."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ecrl.cli.messages import STDERR
from ecrl.cli.plain import counted, ending, run_name
from ecrl.launch.progress import RunProgress, Totals
from ecrl.records.manifest import Row
from ecrl.records.schema import Result
from ecrl.spec.run import RunSpec
from ecrl.units import format_duration

_REDRAW_S = 0.25
STYLES = {
    "completed": "green", "skipped_exists": "green", "failed": "red", "running": "cyan", "interrupted": "yellow",
}  # fmt: skip


class LiveView:
    """Matrix, suite and run as they go, redrawn four times a second below the lines of finished runs."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._drawn = 0.0
        self._row: Row | None = None
        self._totals: Totals | None = None
        self._run_started = time.monotonic()

    def note(self, text: str) -> None:
        """A line above the live display."""
        self._live.console.print(Text(text))

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Begin to show this suite."""
        self._row, self._totals = row, totals

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Begin to show this run."""
        self._totals, self._drawn, self._run_started = totals, 0.0, time.monotonic()
        self.run_progress(spec, RunProgress(total=spec.train.steps))

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Redraw, if it is time."""
        if time.monotonic() - self._drawn < _REDRAW_S or self._totals is None or self._row is None:
            return
        self._drawn = time.monotonic()
        self._live.update(self._drawing(spec, progress, self._row, self._totals), refresh=True)

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """A line that stays."""
        failed = result is not None and result["outcome"] == "failed"
        self._print(Text(ending(spec, result, log, totals), style="red" if failed else ""))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """A line that stays."""
        line = Text(f"suite {totals.suites_done}/{totals.suites} {row.suite_id}: ")
        self._print(line.append(row.status, style=STYLES.get(row.status, "")))

    def _print(self, line: Text) -> None:
        self._live.update(Text(""), refresh=True)  # what it drew is over
        self._live.console.print(line)

    def _drawing(self, spec: RunSpec, progress: RunProgress, row: Row, totals: Totals) -> Group:
        elapsed_s = time.monotonic() - self._run_started
        bars = Table.grid(padding=(0, 1))
        matrix_bar = ProgressBar(totals.runs, totals.runs_done, width=24)
        bars.add_row("matrix", matrix_bar, f"{totals.runs_done}/{totals.runs} runs, {eta(progress, totals, elapsed_s)}")
        run_bar = ProgressBar(progress.total, progress.step, width=24)
        bars.add_row("run", run_bar, f"step {progress.step}/{progress.total}, {format_duration(elapsed_s)}")
        facts = [] if progress.loss is None else [f"loss {progress.loss:.4g}"]
        facts += [] if progress.steps_per_s is None else [f"{progress.steps_per_s:.3g} steps/s"]
        facts += [] if not progress.saved else [counted(progress.saved, "checkpoint")]
        facts += [counted(progress.restarts, "restart")]
        doing = Text(f"{run_name(spec)}: ", overflow="ellipsis", no_wrap=True)
        doing.append(progress.doing, style="bold").append(f"  {', '.join(facts)}")
        where = f"suite {totals.suites_done + 1}/{totals.suites} {row.suite_id}"
        return Group(Text(where, overflow="ellipsis", no_wrap=True), bars, doing)


def eta(progress: RunProgress, totals: Totals, elapsed_s: float) -> str:
    """When everything is done, from measured run times; of this run alone while nothing was measured."""
    run_s = progress.remaining_s if totals.run_s is None else max(totals.run_s - elapsed_s, 0.0)
    if run_s is None:
        return "ETA unknown yet"
    if totals.left_s is None:
        return f"this run {format_duration(run_s)} more"
    return f"ETA {format_duration(totals.left_s + run_s)}"


@contextmanager
def live_view() -> Iterator[LiveView]:
    """A live display on stderr while the block runs."""
    console = Console(file=cast(IO[str], STDERR))
    with Live(
        Text(""), console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as live:
        yield LiveView(live)


def print_table(title: str, header: list[str], rows: list[list[str]], status_column: int | None = None) -> None:
    """A table on stdout, coloured by the status that one of its columns may hold."""
    table = Table(title=title, title_justify="left", expand=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        style = "" if status_column is None else STYLES.get(row[status_column].split()[0], "")
        table.add_row(*(Text(cell, style=style if i == status_column else "") for i, cell in enumerate(row)))
    Console().print(table)
