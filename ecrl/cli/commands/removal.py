"""`ecrl matrix archive | delete`: a campaign as one file, and its end."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_message
from ecrl.errors import EcrlError
from ecrl.launch.system.wait import keep_saying
from ecrl.units import format_bytes, format_count

if TYPE_CHECKING:
    from ecrl.launch.campaign.contents import Size

_PREFIX = typer.Argument(metavar="PREFIX", help="The campaign.", autocompletion=complete.prefixes)
_OUT = typer.Option("--out", metavar="FILE", help="The new file. Default: PREFIX.tar.gz.")
_RESULTS = Path("results")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("archive", epilog="Example: ecrl matrix archive mine --out mine.tar.gz")(archive)
    app.command("delete", epilog="Example: ecrl matrix delete mine --dry-run")(delete)


@keep_saying("the archive", print_message)
def archive(
    prefix: Annotated[str, _PREFIX],
    out: Annotated[Path | None, _OUT] = None,
    results: opt.Results = _RESULTS,
) -> None:
    """Pack the records of a campaign into one file.

    It holds records, logs and report, but not the payloads of checkpoints. It is compared with the campaign before it
    gets its name. The campaign stays; `ecrl matrix delete` removes it.
    """
    from ecrl.launch.campaign.archive import SUFFIX
    from ecrl.launch.campaign.archive import archive as packed
    from ecrl.launch.system.signals import exit_on_interrupt
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    target = out or Path(f"{prefix}{SUFFIX}")
    with exit_on_interrupt("No archive was written; the campaign is as it was."):
        count = packed(paths, target)
    typer.echo(str(target))
    size = format_bytes(target.stat().st_size)
    unpack = shlex.join(["tar", "-xzf", str(target), "-C", str(results)])
    print_message(f"{format_count(count, 'file')}, {size}, compared with the campaign. To unpack it again: {unpack}")


def delete(
    prefix: Annotated[str, _PREFIX],
    results: opt.Results = _RESULTS,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
) -> None:
    """Remove a campaign with everything in its folder.

    Asks first. Checkpoints that its runs wrote to other disks go too. Links are removed, not what else they lead to.
    """
    from ecrl.launch.campaign.contents import measure_folder, require_folder
    from ecrl.launch.campaign.delete import delete as deleted
    from ecrl.launch.system.signals import exit_on_interrupt
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    require_folder(paths)
    what = f"{paths.root}: {_describe(measure_folder(paths.root))}"
    if dry_run:
        typer.echo(f"{what} would be removed; nothing was.")
        return
    if not yes:
        _confirm(prefix, what)
    again = shlex.join(["ecrl", "matrix", "delete", prefix, "--results", str(results)])
    hint = f"Part of the campaign may be gone. To remove the rest: {again}"
    with exit_on_interrupt(hint), keep_saying("the removal", print_message):
        deleted(paths)
    print_message(f"{what} removed.")


def _describe(size: "Size") -> str:
    links = f", {format_count(size.links, 'link')} (what they lead to stays)" if size.links else ""
    elsewhere = f", {format_bytes(size.place_bytes)} of checkpoints on other disks" if size.places else ""
    return f"{format_count(size.files, 'file')}, {format_bytes(size.num_bytes)}{links}{elsewhere}"


def _confirm(prefix: str, what: str) -> None:
    """Ask whether to remove the campaign; end the command unless the answer is yes.

    Raises:
        EcrlError: there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise EcrlError(
            "ECRL-104",
            f"--yes: not given, and there is no terminal to ask on; nothing was removed.\n{what}. Add --yes.",
        )
    print_message(f"{what}\nRemove all of {prefix!r}? This cannot be undone. [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print_message("Nothing was removed.")
        raise typer.Exit(0)
