"""The command `ecrl bundle`. Its imports are inside the function, so that other commands do not load them."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_message
from ecrl.launch.system.wait import keep_saying

_PREFIX = typer.Argument(
    metavar="PREFIX",
    help="The campaign. Omitted: the only one in --results.",
    autocompletion=complete.prefixes,
    envvar="MATRIX_PREFIX",
)
_OUT = typer.Option(
    "--out",
    metavar="FILE|DIR",
    help="A new zip file, or a folder if the name does not end in .zip. Default: PREFIX.zip.",
)


@keep_saying("the bundle", print_message)
def write_bundle(
    prefix: Annotated[str | None, _PREFIX] = None,
    out: Annotated[Path | None, _OUT] = None,
    results: opt.Results = Path("results"),
    registration: opt.Registration = None,
) -> None:
    """Pack a campaign for others, with digests.

    They can verify it and make the report again. The bundle is an RO-Crate in a BagIt bag: events, results, matrices,
    manifest and journal, runs that were set aside, registration, environment and report. It leaves out the payloads of
    checkpoints, and logs; `left_out.json` in it lists these. `ecrl report BUNDLE` verifies it and makes the report
    again, byte for byte.
    """
    from ecrl.bundle.bundle import check_extra, make_bundle
    from ecrl.records.paths import CampaignPaths
    from ecrl.units import format_count

    check_extra()
    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    target = out or Path(f"{paths.prefix}.zip")
    left_out = make_bundle(paths, target, registration)
    print_message(f"{format_count(len(left_out), 'file')} left out (payloads of checkpoints, logs): left_out.json")
    typer.echo(str(target))
    print_message(f"To verify it and make the report again: ecrl report {target}")


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("bundle", epilog="Example: ecrl bundle mine --out mine.zip")(write_bundle)
