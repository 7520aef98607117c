"""Progress without a terminal: one plain line for every change, and now and then one about a long run."""

import time

from ecrl.cli.ui.messages import print_message
from ecrl.config.run import RunSpec
from ecrl.launch.runs.progress import RunProgress, Totals
from ecrl.launch.system.wait import QUIET_S, Reminder
from ecrl.records.manifest.store import INTERRUPTED, Row
from ecrl.records.result import Result
from ecrl.units import format_count, format_duration

_QUIET_S = QUIET_S + 1  # a word about a silent run comes first, and says more


class ProgressLog:
    """Prints a line when a suite or run begins or ends, when a run restarts, and when nothing was printed for long.

    Lines of runs name their suite if several suites run at once.
    """

    def __init__(self) -> None:
        self._suites: set[str] = set()  # running suites
        self._restarts: dict[str, int] = {}  # of the run in progress, by suite
        self._side_by_side = False
        self._changed, self._reminder = time.monotonic(), Reminder()

    def note(self, text: str) -> None:
        """Print a message."""
        print_message(text)
        self._changed = time.monotonic()

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Print the suite's position, id and number of runs."""
        self._suites.add(row.suite_id)
        self._side_by_side = self._side_by_side or len(self._suites) > 1
        self.note(
            f"suite {totals.suites_done + len(self._suites)}/{totals.suites} {row.suite_id}:"
            f" {format_count(row.runs_total, 'run')}"
        )

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Print the run's name, and the estimated time for the rest if it is known."""
        self._restarts[spec.suite_id] = 0
        number = totals.runs_done + len(self._restarts)
        left = f" (about {format_duration(totals.left_s)} left after it)" if totals.left_s else ""
        self.note(f"{self._suite(spec)}run {number}/{totals.runs} {run_name(spec)} started{left}")

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Print a line if the worker group was restarted, or if no other line was printed for long."""
        if progress.restarts > self._restarts[spec.suite_id]:
            self._restarts[spec.suite_id] = progress.restarts
            told = f"restart {progress.restarts}, after step {progress.furthest}/{progress.total}"
            self.note(f"{self._suite(spec) or '  '}{run_name(spec)}: {told}")
        elif self._reminder.is_due(time.monotonic() - self._changed, _QUIET_S):
            rate = f", {progress.steps_per_s:.3g} steps/s" if progress.steps_per_s else ""
            told = f"{progress.doing}, step {progress.step}/{progress.total}{rate}"
            print_message(f"{self._suite(spec) or '  '}{run_name(spec)}: {told}")

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """Print the outcome of the run."""
        del self._restarts[spec.suite_id]
        self.note(self._suite(spec) + describe_run_end(spec, result, log, totals))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """Print the final status of the suite."""
        self._suites.discard(row.suite_id)
        self.note(f"{format_suite_position(row, totals)} {row.suite_id}: {row.status}")

    def _suite(self, spec: RunSpec) -> str:
        return f"{spec.suite_id}: " if self._side_by_side else ""


def format_suite_position(row: Row, totals: Totals) -> str:
    """The position of a suite that has just ended: 'suite 3/8'."""
    # The done suites include this one unless it was interrupted.
    return f"suite {totals.suites_done + (row.status == INTERRUPTED)}/{totals.suites}"


def run_name(spec: RunSpec) -> str:
    """The name of a run within its suite: its folder name and its seed."""
    return f"{spec.folder_name} seed{spec.seed}"


def describe_run_end(spec: RunSpec, result: Result | None, log: str, totals: Totals) -> str:
    """One or two lines about a run that has ended."""
    if result is None:
        return f"run {run_name(spec)} interrupted"
    if result["outcome"] == "failed":
        return f"run {run_name(spec)} FAILED: {result['reason']}\n  log: {log}"
    wall_s, restarts = result["wall_s"], result["restarts"]
    again = f", {format_count(restarts, 'restart')}" if restarts else ""
    rate = f"{spec.train.steps / wall_s:.3g} steps/s end to end" if wall_s else "-"
    return (
        f"run {totals.runs_done}/{totals.runs} {run_name(spec)} completed:"
        f" {format_count(spec.train.steps, 'step')} in {format_duration(wall_s)} ({rate}){again}"
    )
