"""The command `ecrl track`. Its imports are inside the function, so that other commands do not load them."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import LinuxCommand
from ecrl.cli.ui.messages import plain_table, print_json, print_message

SCHEMA = 1
_TO = typer.Option("--to", metavar="A,B", help="The tools to feed.", autocompletion=complete.list_of("tracker"))


def feed(
    to: Annotated[str, _TO],
    prefix: opt.OnlyPrefix = None,
    results: opt.Results = Path("results"),
    as_json: opt.AsJson = False,
) -> None:
    """Pass a campaign's records on to tools that show runs.

    They are TensorBoard, MLflow, Weights & Biases and Prometheus. Repeated, it adds what is new. `ecrl matrix run
    --trackers` does it while the campaign runs.
    """
    from ecrl import plugins
    from ecrl.errors import EcrlError, unknown_name
    from ecrl.launch.campaign.contents import require_folder
    from ecrl.launch.campaign.trackers import require_trackers, track
    from ecrl.launch.system.signals import handle_signals
    from ecrl.records.paths import CampaignPaths
    from ecrl.units import format_count

    names = [name.strip() for name in to.split(",") if name.strip()] or [to]
    for name in names:
        if name not in plugins.names("tracker"):
            raise EcrlError("ECRL-291", f"--to: {unknown_name('tracker', name, plugins.names('tracker'))}")
    require_trackers(names)
    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    require_folder(paths)
    with handle_signals() as stop:
        fed = [{"tracker": name, **track(paths, name, stop, print_message)} for name in names]
    if as_json:
        print_json({"schema": SCHEMA, "prefix": paths.prefix, "trackers": fed})
        return
    rows = [
        [one["tracker"], format_count(one["runs"], "run"), format_count(one["points"], "point"), one["where"]]
        for one in fed
    ]
    typer.echo(plain_table(["tracker", "runs", "points", "where"], rows))


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("track", cls=LinuxCommand, epilog="Example: ecrl track --prefix mine --to tensorboard")(feed)
