"""Campaigns that run without a terminal: `--detach`, `ecrl matrix attach` and `ecrl matrix stop`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_json, print_message

if TYPE_CHECKING:
    from ecrl.records.paths import CampaignPaths

_RESULTS = Path("results")
SCHEMA = 1
_NOT_YET = "waiting for its manifest, which is written once this machine is checked"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("attach", epilog="Example: ecrl matrix attach --prefix mine")(attach)
    app.command("stop", epilog="Example: ecrl matrix stop --prefix mine --patience 120")(stop)


def start(paths: "CampaignPaths", as_json: bool, *more: str) -> None:
    """Start the current command line again, without --detach and with the arguments `more`, in a new session."""
    from ecrl.launch.campaign.detach import start_detached
    from ecrl.launch.system.disk_errors import explain_storage_errors
    from ecrl.launch.system.signals import handle_signals

    arguments = [*(argument for argument in sys.argv[1:] if argument != "--detach"), *more]
    with handle_signals() as asked, explain_storage_errors(paths):
        detached = start_detached(paths, arguments, asked, print_message)
    if as_json:
        print_json({"schema": SCHEMA, "prefix": paths.prefix, "pid": detached.pid, "log": str(detached.log)})
        return
    print_message(f"{paths.prefix} runs without this terminal (pid {detached.pid}), log: {detached.log}")
    print_message(f"Watch it: ecrl matrix attach {paths.options}; end it: ecrl matrix stop {paths.options}")


def attach(prefix: opt.OnlyPrefix = None, results: opt.Results = _RESULTS) -> None:
    """Show what a detached ecrl does, until it ends.

    Ctrl-C leaves it running.

    The exit code is that of the detached ecrl: 0 if all requested work is done, 4 if some suites failed, 143 if it was
    stopped first (or killed).
    """
    from contextlib import closing

    from ecrl.cli.ui import campaign_tables as shown
    from ecrl.cli.ui.lines import format_lines
    from ecrl.errors import EXIT_OK, EXIT_SOME_FAILED
    from ecrl.launch.campaign.detach import follow
    from ecrl.launch.campaign.lock import last_exit_code
    from ecrl.launch.campaign.resume_command import resume_command
    from ecrl.launch.system.signals import handle_signals
    from ecrl.launch.views.snapshot import CampaignWatch
    from ecrl.records.manifest import store as manifest
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    with handle_signals() as asked, closing(CampaignWatch(paths)) as watch:
        # The detached ecrl locks the prefix before it writes the manifest.
        still = follow(
            paths,
            print_message,
            asked,
            standing=lambda: format_lines(watch.take_snapshot()) if paths.manifest.exists() else [_NOT_YET],
        )
    if still is not None:
        print_message(f"left; pid {still.owner.pid} still runs. To return, type: ecrl matrix attach {paths.options}")
        return
    code = last_exit_code(paths)
    if paths.manifest.exists():
        shown.print_summary(paths)
        counts = manifest.read(paths).counts
        unfinished = any(counts[status] for status in (manifest.PENDING, manifest.INTERRUPTED, manifest.RUNNING))
        code = code or (EXIT_SOME_FAILED if counts[manifest.FAILED] else EXIT_OK)
    else:
        unfinished = True
    if unfinished and code not in (EXIT_OK, EXIT_SOME_FAILED):  # with these, only a part of it was requested
        print_message(f"The detached ecrl ended before all suites were done. Go on with:\n{resume_command(paths)}")
    raise typer.Exit(code)


def stop(
    prefix: opt.Prefix,
    results: opt.Results = _RESULTS,
    now: Annotated[bool, typer.Option("--now", help="Kill the workers at once.")] = False,
    patience: Annotated[float, typer.Option(min=1.0, metavar="S", help="How many seconds to wait for its end.")] = 60.0,
    as_json: opt.AsJson = False,
) -> None:
    """Stop the ecrl that runs a campaign, as Ctrl-C does.

    Waits for its end. What was finished is kept.
    """
    from ecrl.launch.campaign.detach import stop_holder
    from ecrl.launch.system.signals import exit_on_interrupt
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    with exit_on_interrupt("The request to stop stays; the other ecrl is still stopping."):
        told = stop_holder(paths, now=now, patience_s=patience, say=print_message)
    if as_json:
        print_json({"schema": SCHEMA, "prefix": prefix, "pid": told.owner.pid, "host": told.owner.host})
    else:
        print_message(f"pid {told.owner.pid} has stopped cleanly. Go on with:\necrl matrix resume {paths.options}")
