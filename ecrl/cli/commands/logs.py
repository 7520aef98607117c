"""`ecrl logs`: shows the logs of a suite's runs, once or continuously."""

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_json, print_message
from ecrl.units import format_count

if TYPE_CHECKING:
    from ecrl.launch.views.logs import Line
    from ecrl.launch.views.suite_view import SuiteView
    from ecrl.records.paths import CampaignPaths

_POLL_S = 0.3
_NOT_THERE_YET = ("ECRL-301", "ECRL-402")  # no campaign of this prefix; no manifest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("logs", epilog="Example: ecrl logs -f k10-q4")(logs)


def logs(
    suite: opt.SuiteId,
    prefix: opt.SuitePrefix = None,
    results: opt.Results = Path("results"),
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow the logs, run after run.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="Last lines of each log.")] = 40,
    variant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The run of this variant.", autocompletion=complete.member("engine")),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The run of this seed.")] = None,
    rank: Annotated[int | None, typer.Option(min=0, metavar="N", help="The logs of this rank only.")] = None,
    as_json: opt.AsJson = False,
) -> None:
    """Show the logs of a run's launcher and ranks.

    By default those of the live run, else those of a failed one.

    With -f, lines of every log are shown as they are written, until the suite is done; with --prefix, it waits for a
    campaign that is not there yet. Ctrl-C leaves it running. Lines between dashes mark planned failures.
    """
    from ecrl.launch.views.suite_view import inspect_suite

    if follow:
        with suppress(KeyboardInterrupt):  # Ctrl-C ends the display, not the run
            paths, suite_id = _wait_for_suite(results, prefix, suite)
            _follow(results, paths.prefix, suite_id, rank, lines, as_json)
        return
    found = inspect_suite(results, prefix, suite, print_message)
    if as_json:
        print_json(_document(found, variant, seed, rank, lines))
    else:
        _print(found, variant, seed, rank, lines)


def _document(
    suite: "SuiteView", variant: str | None, seed: int | None, rank: int | None, lines: int
) -> dict[str, object]:
    from ecrl.launch.views.logs import SCHEMA, choose_run, find_log_files

    run = choose_run(suite, variant, seed)
    told = [log.to_json(lines) for log in find_log_files(run.paths, rank)]
    which = {"suite_id": suite.row.suite_id, "variant": run.variant, "seed": run.seed, "state": run.state}
    return {"schema": SCHEMA, "prefix": suite.paths.prefix, **which, "logs": told}


def _print(suite: "SuiteView", variant: str | None, seed: int | None, rank: int | None, lines: int) -> None:
    from ecrl.launch.views.logs import choose_run, find_log_files, read_marked_lines
    from ecrl.launch.views.planned_failures import read_marks

    run = choose_run(suite, variant, seed)
    print_message(f"{suite.row.suite_id} {run.variant} seed{run.seed}: {run.state}")
    empty, marks = 0, read_marks(run.paths)
    for log in find_log_files(run.paths, rank):
        if text := read_marked_lines(log, lines, marks):
            print(f"==> {log.path} <==", *text, sep="\n")
        else:
            empty += 1
    if empty:
        print_message(f"{format_count(empty, 'empty log')} in {run.paths.logs}")


def _wait_for_suite(results: Path, prefix: str | None, suite: str) -> tuple["CampaignPaths", str]:
    """The campaign and the id of a suite. Waits for a campaign that is named and not there yet."""
    from ecrl.errors import EcrlError
    from ecrl.launch.views.suite_view import locate_suite

    told = False
    while True:
        try:
            paths, row = locate_suite(results, prefix, suite, print_message)
            return paths, row.suite_id
        except EcrlError as error:
            if prefix is None or error.code not in _NOT_THERE_YET:
                raise
            if not told:
                print_message(f"{error.args[0].splitlines()[0]} (waiting)")
                told = True
        time.sleep(_POLL_S)


def _follow(results: Path, prefix: str, suite_id: str, rank: int | None, lines: int, as_json: bool) -> None:
    from ecrl.launch.views.logs import LogFollower

    follower = LogFollower(results, prefix, suite_id, rank, lines)
    before, waits = "", ""
    try:
        while True:
            for line in follower.poll():
                before = _print_line(line, before, as_json)
            if follower.over:
                print_message(follower.over)
                return
            if follower.waits not in ("", waits):
                print_message(f"{follower.waits} (waiting)")
            waits = follower.waits
            time.sleep(_POLL_S)
    finally:
        follower.close()


def _print_line(line: "Line", before: str, as_json: bool) -> str:
    """Print a line, with a heading if its run is not `before`. Returns the name of the run."""
    from ecrl.launch.views.logs import SCHEMA

    run, log = line.run, line.log
    name = f"{run.variant} seed{run.seed}"
    if as_json:
        where = {"variant": run.variant, "seed": run.seed, "stream": log.stream, "attempt": log.attempt}
        print(json.dumps({"schema": SCHEMA, **where, "rank": log.rank, "line": line.text}), flush=True)
        return name
    if name != before:
        print(f"==> {name} <==")
    print(f"{log.label}: {line.text}", flush=True)
    return name
