"""`ecrl matrix status | list | show`: the read-only commands."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_json, print_message

_RESULTS = Path("results")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status", epilog="Example: ecrl matrix status --prefix mine --watch")(status)
    app.command("show", epilog="Example: ecrl matrix show --prefix mine k10-q4")(show)
    app.command("list", epilog="Example: ecrl matrix list --results results")(list_prefixes)


def status(
    prefix: opt.OnlyPrefix = None,
    results: opt.Results = _RESULTS,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Refresh until the end: full-screen on a terminal.")
    ] = False,
    interval: Annotated[
        float, typer.Option(min=0.2, metavar="S", help="Seconds between two updates of --watch.", show_default=True)
    ] = 2.0,
    everything: Annotated[
        bool, typer.Option("--all", help="Show every suite, even if there are more than 1,000.")
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Show every suite of a campaign, and why suites failed.

    Of more than 1,000 suites, only running, failed and interrupted ones are shown.

    With --watch: counts, time left, running suites with step, loss, speed and phase; as the screen has room, goodput
    and stall so far, the last finished runs, the queue; last failures. q or Ctrl-C leaves the view; the campaign
    continues. Off a terminal it prints plain lines (--json: one document a line) until nothing is left to run.
    """
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    if watch:
        from ecrl.cli.ui.watch import watch as watched
        from ecrl.launch.views.snapshot import CampaignWatch

        watched(CampaignWatch(paths), interval, as_json)
        return
    from ecrl.cli.ui import campaign_tables as shown

    if as_json:
        print_json(shown.build_status_document(paths))
    else:
        shown.show_status(paths, everything)


def list_prefixes(results: opt.Results = _RESULTS, as_json: opt.AsJson = False) -> None:
    """Show every campaign in the results folder."""
    from ecrl.cli.ui import campaign_tables as shown

    if as_json:
        print_json(shown.build_list_document(results))
    else:
        shown.show_list(results)


def show(
    suite: opt.SuiteId,
    prefix: opt.SuitePrefix = None,
    results: opt.Results = _RESULTS,
    as_json: opt.AsJson = False,
) -> None:
    """Show one suite: its settings and its runs.

    Every run is shown with its outcome, time, restarts and checks.
    """
    from ecrl.cli.ui import suite_table as shown
    from ecrl.launch.views.suite_view import inspect_suite

    found = inspect_suite(results, prefix, suite, print_message)
    if as_json:
        print_json(found.to_json())
    else:
        shown.show(found)
