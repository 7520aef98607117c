"""The command `ecrl register`. Its imports are inside the function, so that other commands do not load them."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.ui.messages import print_message

_MATRIX = typer.Argument(metavar="MATRIX.toml", help="The matrix file to register.")
_OUT = typer.Option(
    "--out", metavar="FILE", help="Where to write. Default: MATRIX.registration.json beside the matrix."
)
_STAMP = typer.Option(
    "--stamp", metavar="FILE", help="The RFC 3161 response of a time-stamping authority, to be added to the file."
)


def write_registration_file(
    matrix: Annotated[Path, _MATRIX],
    out: Annotated[Path | None, _OUT] = None,
    stamp: Annotated[Path | None, _STAMP] = None,
) -> None:
    """Write down before the first run what a matrix claims.

    The report shows what ran otherwise. The file has the claims, the planned blocks, the order and stopping rules, the
    version of the analysis, the git commit that holds the matrix, and a SHA-256 over all of it. `ecrl matrix run`
    copies it into the campaign.
    """
    from ecrl.config.registration import get_registration_path, write_registration
    from ecrl.config.stamp import add_stamp, describe_query, is_readable

    path = out or get_registration_path(matrix)
    found = write_registration(matrix, path)
    if stamp is not None:
        if not is_readable():
            print_message("warning: --stamp was not read: that needs `pip install 'ecrl[bundle]'`")
        found = add_stamp(found, stamp)
        found.write(path)
    if not found.content["claims"]:
        print_message("warning: the matrix has no [[claims]]: only its blocks are registered")
    if found.content["commit"] is None and found.stamp is None:
        print_message(
            "note: nothing shows when this was written. Commit the matrix before its first run, or have the file"
            f" stamped: {describe_query(found)}"
        )
    typer.echo(str(path))
    typer.echo(f"sha256 {found.sha256}")


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("register", epilog="Example: ecrl register mine.toml")(write_registration_file)
