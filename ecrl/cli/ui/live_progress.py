"""Live progress of `ecrl matrix run` on a terminal: an observer of the campaign that draws a `CampaignView`."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rich.live import Live
from rich.text import Text

from ecrl.cli.ui.campaign_view import CampaignView, open_live
from ecrl.cli.ui.progress_log import describe_run_end, format_suite_position
from ecrl.cli.ui.tables import STYLES
from ecrl.config.run import RunSpec
from ecrl.launch.runs.progress import RunProgress, Totals
from ecrl.launch.runs.silence import describe_silence
from ecrl.launch.system.process_identity import Liveness
from ecrl.launch.views.follower import LiveRun
from ecrl.launch.views.snapshot import RunningSuite, Snapshot
from ecrl.records.manifest.store import PENDING, RUNNING, STATUSES, Row, utc_now
from ecrl.records.paths import CampaignPaths
from ecrl.records.result import Result

_REDRAW_S = 0.25
_HINT = "Ctrl-C stops cleanly"
_DONE_BEFORE = "done before"


@dataclass
class _Run:
    """A run in progress.

    expected_s: the duration expected when the run began. began: a monotonic time in seconds.
    """

    spec: RunSpec
    expected_s: float | None
    began: float = field(default_factory=time.monotonic)
    progress: RunProgress = field(default_factory=lambda: RunProgress(total=0))

    @property
    def left_s(self) -> float | None:
        """The rest of the expected duration in seconds, at least 0; None if no duration was expected."""
        return None if self.expected_s is None else max(self.expected_s - (time.monotonic() - self.began), 0.0)


class LiveProgress:
    """Prints a line for each ended run and suite. Draws the campaign below them, up to four times a second."""

    def __init__(self, live: Live, paths: CampaignPaths) -> None:
        self._live, self._paths = live, paths
        self._drawn = 0.0
        self._totals = Totals(suites=0)
        self._rows: dict[str, Row] = {}  # of running suites, in the order they began
        self._runs: dict[str, _Run] = {}  # by suite
        self._statuses: dict[str, str] = {}  # of every suite that has begun since the start
        self._done_before = 0
        self._measured = 0
        self._side_by_side = False

    def note(self, text: str) -> None:
        """Print a line above the live display."""
        self._live.console.print(Text(text))

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Add the suite to the display."""
        if not self._live.is_started:
            self._done_before, self._measured = totals.suites_done, totals.runs_done
            self._live.start()
        self._totals, self._rows[row.suite_id], self._statuses[row.suite_id] = totals, row, RUNNING
        self._side_by_side = self._side_by_side or len(self._rows) > 1
        self._redraw()

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Add the run to the display of its suite."""
        row = self._rows[spec.suite_id]
        self._rows[spec.suite_id] = replace(row, runs_done=_count_runs_before(spec, row))
        self._runs[spec.suite_id] = _Run(spec, totals.run_s)
        self._drawn = 0.0
        self.run_progress(spec, RunProgress(total=spec.train.steps))

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Store the progress; redraw if the last redraw is at least 0.25 s ago."""
        self._runs[spec.suite_id].progress = progress
        if time.monotonic() - self._drawn >= _REDRAW_S:
            self._redraw()

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """Print a permanent line for the run."""
        del self._runs[spec.suite_id]
        row = self._rows[spec.suite_id]
        self._rows[spec.suite_id] = replace(row, runs_done=row.runs_done + (result is not None))
        self._measured += result is not None
        failed = result is not None and result["outcome"] == "failed"
        suite = f"{spec.suite_id}: " if self._side_by_side else ""
        self._print(Text(suite + describe_run_end(spec, result, log, totals), style="red" if failed else ""))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """Print a permanent line for the suite."""
        del self._rows[row.suite_id]
        self._statuses[row.suite_id] = row.status
        line = Text(f"{format_suite_position(row, totals)} {row.suite_id}: ")
        self._print(line.append(row.status, style=STYLES.get(row.status, "")))

    def _print(self, line: Text) -> None:
        """Print the line above the live display, which is empty if no suite runs."""
        self._live.update(CampaignView(self.take_snapshot(), _HINT) if self._rows else Text(""))
        self._live.console.print(line)

    def _redraw(self) -> None:
        self._drawn = time.monotonic()
        self._live.update(CampaignView(self.take_snapshot(), _HINT), refresh=True)

    def take_snapshot(self) -> Snapshot:
        """The campaign as seen by this ecrl process. It has no failures: the permanent lines show them."""
        totals = self._totals
        return Snapshot(
            prefix=self._paths.prefix,
            options=self._paths.options,
            at=utc_now(),
            counts=self._count_suites(),
            runs_done=totals.runs_done,
            runs_total=totals.runs,
            runs_measured=self._measured,
            eta_s=self._estimate_eta_s(),
            running=[self._describe_running(row) for row in self._rows.values()],
            failures=[],
            warnings=[],
        )

    def _count_suites(self) -> dict[str, int]:
        pending = self._totals.suites - self._done_before - len(self._statuses)
        counts = Counter(self._statuses.values()) | Counter({PENDING: pending, _DONE_BEFORE: self._done_before})
        return {name: counts[name] for name in (*STATUSES, _DONE_BEFORE)}

    def _estimate_eta_s(self) -> float | None:
        """Seconds until the end: the time of runs not yet started plus the longest rest of a run in progress.

        None if a time is not known.
        """
        going_on = [run.left_s for run in self._runs.values()]
        known = [left_s for left_s in going_on if left_s is not None]
        if self._totals.left_s is None or len(known) < len(going_on):
            return None
        return self._totals.left_s + max(known, default=0.0)

    def _describe_running(self, row: Row) -> RunningSuite:
        run = self._runs.get(row.suite_id)
        if run is None:
            return RunningSuite(row, Liveness.ALIVE, None, elapsed_s=None, silent_s=None)
        live = LiveRun(
            suite_id=row.suite_id,
            variant=run.spec.folder_name,
            seed=run.spec.seed,
            progress=run.progress,
            gpus="",
            begun=None,
            t=None,
        )
        silent_s, elapsed_s = run.progress.silent_s, time.monotonic() - run.began
        paths = self._paths.run(row.suite_id, run.spec.folder_name, run.spec.seed)
        silence = describe_silence(run.progress, silent_s, paths)
        return RunningSuite(row, Liveness.ALIVE, live, elapsed_s, silent_s, silence)


def _count_runs_before(spec: RunSpec, row: Row) -> int:
    """The number of runs of the suite that come before this run."""
    # Whole blocks, of which only the first may have an A/A repeat, then the runs of the run's own block.
    block, size = row.seeds.index(spec.seed), len(row.variants)
    repeats = row.runs_total - size * len(row.seeds)
    return block * size + (repeats if block else 0) + spec.block_position


@contextmanager
def open_live_progress(paths: CampaignPaths) -> Iterator[LiveProgress]:
    """Show live progress on stderr while the block runs."""
    with open_live(sys.stderr, full_screen=False) as live:
        yield LiveProgress(live, paths)
