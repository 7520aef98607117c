"""Progress without a terminal: one plain line for every change."""

from ecrl.cli.ui.messages import print_message
from ecrl.config.run import RunSpec
from ecrl.launch.runs.progress import RunProgress, Totals
from ecrl.records.manifest.store import INTERRUPTED, Row
from ecrl.records.result import Result
from ecrl.units import format_count, format_duration


class ProgressLog:
    """Prints a line when a suite or run begins or ends, and when a run restarts.

    Lines of runs name their suite if several suites run at once.
    """

    def __init__(self) -> None:
        self._suites: set[str] = set()  # running suites
        self._restarts: dict[str, int] = {}  # of the run in progress, by suite
        self._side_by_side = False

    def note(self, text: str) -> None:
        """Print a message."""
        print_message(text)

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Print the suite's position, id and number of runs."""
        self._suites.add(row.suite_id)
        self._side_by_side = self._side_by_side or len(self._suites) > 1
        print_message(
            f"suite {totals.suites_done + len(self._suites)}/{totals.suites} {row.suite_id}:"
            f" {format_count(row.runs_total, 'run')}"
        )

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Print the run's name, and the estimated time for the rest if it is known."""
        self._restarts[spec.suite_id] = 0
        number = totals.runs_done + len(self._restarts)
        left = f" (about {format_duration(totals.left_s)} left after it)" if totals.left_s else ""
        print_message(f"{self._suite(spec)}run {number}/{totals.runs} {run_name(spec)} started{left}")

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Print a line if the worker group was restarted."""
        if progress.restarts > self._restarts[spec.suite_id]:
            self._restarts[spec.suite_id] = progress.restarts
            told = f"restart {progress.restarts}, after step {progress.furthest}/{progress.total}"
            print_message(f"{self._suite(spec) or '  '}{run_name(spec)}: {told}")

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """Print the outcome of the run."""
        del self._restarts[spec.suite_id]
        print_message(self._suite(spec) + describe_run_end(spec, result, log, totals))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """Print the final status of the suite."""
        self._suites.discard(row.suite_id)
        print_message(f"{format_suite_position(row, totals)} {row.suite_id}: {row.status}")

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
