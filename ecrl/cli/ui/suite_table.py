"""The output of `ecrl matrix show` about a suite."""

import textwrap

from ecrl.cli.ui.campaign_tables import show_table
from ecrl.cli.ui.messages import print_message
from ecrl.launch.views.suite_view import NO_SPEC, RunView, SuiteView
from ecrl.records.manifest.store import FAILED
from ecrl.units import format_count, format_duration

_WIDTH = 80
_LEGEND = (
    "checks: + passed, - failed; C1 finished, with the planned failures; C2 restored what was saved; C3 ranks agree at"
    " the end; C5 loss finite. The report adds C4 same data as the reference and C6 same final state."
)


def show(suite: SuiteView) -> None:
    """Print the suite's facts, a row for every run, then where to find more."""
    row = suite.row
    failures = "none" if not row.failure_steps else f"{row.failure_label}: {', '.join(map(str, row.failure_steps))}"
    print(f"suite     {row.suite_id}")
    print(f"campaign  {suite.paths.prefix}, {suite.paths.root / 'suites' / row.suite_id}")
    print(
        f"train     {row.dataset} x {row.model}, {format_count(row.steps, 'step')} on {format_count(row.nproc, 'rank')}"
    )
    print(f"failures  {failures}")
    if row.axes:
        print(f"axes      {row.axes.replace(';', ', ')}")
    every = format_count(row.checkpoint_every, "step")
    print(f"engine    a checkpoint every {every}, at most {row.max_inflight} in flight")
    began = f", begun {row.started_at} ({format_count(row.attempts, 'attempt')})" if row.started_at else ""
    ended = f", ended {row.finished_at}" if row.finished_at else ""
    print(f"status    {row.status}, {row.runs_done}/{format_count(row.runs_total, 'run')}{began}{ended}")
    header = ["seed", "#", "variant", "state", "wall", "restarts", "checks", "set aside"]
    show_table("runs, in the order they run", header, [_cells(run) for run in suite.runs])
    if any(run.result is not None for run in suite.runs):
        print(textwrap.fill(_LEGEND, _WIDTH))
    for run in suite.runs:
        if run.result is not None and run.result["outcome"] == "failed":
            print(f"failed {run.variant} seed{run.seed}: {run.result['reason']}")
            print(f"  log: {run.paths.folder / run.result['log']}")
        elif run.state == NO_SPEC:
            print(
                f"{run.variant} seed{run.seed}: its run.json is gone or damaged; its result cannot be used without it."
            )
            print(f"  Restore it, or type: ecrl matrix run {suite.paths.options} --rerun {row.suite_id}")
    print_message(f"Logs: ecrl logs {suite.paths.options} {row.suite_id}")
    if row.status == FAILED:
        print_message(f"Again: ecrl matrix resume {suite.paths.options} --rerun {row.suite_id}")


def _cells(run: RunView) -> list[str]:
    position = "" if run.position is None else str(run.position + 1)
    state, wall, restarts, checks = run.state, "", "", ""
    if run.live is not None:
        seen = run.live.progress
        state = f"{seen.doing}, step {seen.step}/{seen.total}"
    if run.result is not None:
        wall, restarts = format_duration(run.result["wall_s"]), str(run.result["restarts"])
        checks = " ".join(
            f"{name}{'+' if gate['passed'] else '-'}"
            for name, gate in run.result["gates"].items()
            if gate["passed"] is not None
        )
    return [str(run.seed), position, run.variant, state, wall, restarts, checks, str(run.aside or "")]
