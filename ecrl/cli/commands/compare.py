"""The command `ecrl compare`. Its imports are inside the function, so that other commands do not load them."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import plain_table, print_json, print_message
from ecrl.launch.system.wait import keep_saying

_BEFORE = typer.Argument(
    metavar="BEFORE",
    help="Prefix of the campaign that the other one is compared with.",
    autocompletion=complete.prefixes,
)
_AFTER = typer.Argument(
    metavar="AFTER", help="Prefix of the campaign after the change.", autocompletion=complete.prefixes
)
_METRIC = typer.Option(
    "--metric", metavar="NAME", help="A numeric column of the runs table.", autocompletion=complete.metrics
)


@keep_saying("the comparison", print_message)
def compare(
    before: Annotated[str, _BEFORE],
    after: Annotated[str, _AFTER],
    metric: Annotated[str, _METRIC] = "goodput_steps_per_s",
    results: opt.Results = Path("results"),
    as_json: opt.AsJson = False,
) -> None:
    """Compare two campaigns: before and after a change.

    Per suite and variant, paired by seed, with intervals. What gets a verdict is the change of a variant less that of
    its own session's reference. Lists what differs between the two: a change may come from one of these.
    """
    from ecrl.errors import EcrlError

    if before == after:
        raise EcrlError("ECRL-102", f"Found {before!r} twice, expected two campaigns. `ecrl matrix list` names them.")
    from ecrl.analysis.campaign.load import load_campaign
    from ecrl.analysis.campaign.pool import differences
    from ecrl.analysis.claims.before_after import compare_before_after
    from ecrl.records.paths import CampaignPaths
    from ecrl.report.pages import before_after as shown

    old, new = (load_campaign(CampaignPaths(results, prefix)) for prefix in (before, after))
    for found in (old, new):
        for warning in found.warnings:
            print_message(f"warning: {found.prefix}: {warning}")
    changes = compare_before_after(old, new, metric)
    differing = differences([old, new])
    if as_json:
        print_json(shown.document(before, after, metric, changes, differing))
        return
    for title, header, rows in shown.tables(changes, old.axes_texts):
        if sys.stdout.isatty():
            from ecrl.cli.ui.tables import print_table

            print_table(title, header, rows)
        else:
            typer.echo(f"{title}\n{plain_table(header, rows)}\n")
    typer.echo("\n".join(shown.sentences(changes, differing)))


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("compare", epilog="Example: ecrl compare before after --metric stall_s")(compare)
