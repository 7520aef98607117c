"""Progress without a terminal: one line for every change, nothing that moves."""

from ecrl.cli.messages import say
from ecrl.launch.progress import RunProgress, Totals
from ecrl.records.manifest import Row
from ecrl.records.schema import Result
from ecrl.spec.run import RunSpec
from ecrl.units import format_duration


class PlainView:
    """Prints a line when a suite or run begins, restarts or ends."""

    def __init__(self) -> None:
        self._restarts = 0

    def note(self, text: str) -> None:
        """Print it."""
        say(text)

    def suite_started(self, row: Row, totals: Totals) -> None:
        """Name the suite and its place."""
        say(f"suite {totals.suites_done + 1}/{totals.suites} {row.suite_id}: {row.runs_total} runs")

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        """Name the run, and how long the rest will take if that is known."""
        self._restarts = 0
        left = "" if totals.left_s is None else f" (about {format_duration(totals.left_s)} left after it)"
        say(f"run {totals.runs_done + 1}/{totals.runs} {run_name(spec)} started{left}")

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        """Say when the group was restarted."""
        if progress.restarts > self._restarts:
            self._restarts = progress.restarts
            say(f"  {run_name(spec)}: restart {progress.restarts}, after step {progress.furthest}/{progress.total}")

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        """Say what became of the run."""
        say(ending(spec, result, log, totals))

    def suite_finished(self, row: Row, totals: Totals) -> None:
        """Say what became of the suite."""
        say(f"suite {totals.suites_done}/{totals.suites} {row.suite_id}: {row.status}")


def counted(number: int, noun: str) -> str:
    """'1 restart', '2 restarts'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def run_name(spec: RunSpec) -> str:
    """A run within its suite."""
    return f"{spec.variant} seed{spec.seed}"


def ending(spec: RunSpec, result: Result | None, log: str, totals: Totals) -> str:
    """One or two lines about a run that has ended."""
    if result is None:
        return f"run {run_name(spec)} interrupted"
    if result["outcome"] == "failed":
        return f"run {run_name(spec)} FAILED: {result['reason']}\n  log: {log}"
    wall_s, restarts = result["wall_s"], result["restarts"]
    again = f", {counted(restarts, 'restart')}" if restarts else ""
    rate = f"{spec.train.steps / wall_s:.3g} steps/s" if wall_s else "-"
    return (
        f"run {totals.runs_done}/{totals.runs} {run_name(spec)} completed:"
        f" {spec.train.steps} steps in {format_duration(wall_s)} ({rate}){again}"
    )
