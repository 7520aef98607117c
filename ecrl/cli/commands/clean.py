"""`ecrl matrix clean`: lists removable files, and removes them with --yes."""

from pathlib import Path
from typing import Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_json, print_message
from ecrl.units import format_bytes, format_count

_KINDS = "set-aside,temporary,warm-ups"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("clean", epilog="Example: ecrl matrix clean --prefix mine --kinds checkpoints")(clean)


def clean(
    prefix: opt.Prefix,
    results: opt.Results = Path("results"),
    kinds: Annotated[
        str,
        typer.Option(
            "--kinds",
            metavar="A,B",
            help="Of set-aside, temporary, warm-ups, checkpoints.",
            show_default=True,
            autocompletion=complete.leftovers,
        ),
    ] = _KINDS,
    yes: Annotated[
        bool, typer.Option("--yes/--dry-run", help="Remove the files, or only list them.", show_default=True)
    ] = False,
    as_json: opt.AsJson = False,
) -> None:
    """List or remove files that are not needed any more.

    They are removed with --yes. Results are never touched.

    set-aside: records of attempts that do not count. temporary: incomplete files of a killed ecrl. warm-ups: the
    discarded runs before the first one of a session. checkpoints: those of finished suites; no run resumes from them.
    """
    from ecrl.cli.typer_support.usage_errors import check_choice
    from ecrl.launch.campaign.clean import KINDS, SCHEMA, find_leftovers
    from ecrl.launch.campaign.clean import clean as cleaned
    from ecrl.records.paths import CampaignPaths

    wanted = [check_choice("--kinds", part.strip(), tuple(KINDS)) for part in kinds.split(",") if part.strip()]
    paths = CampaignPaths(results, prefix)
    again = f"ecrl matrix clean {paths.options}{'' if kinds == _KINDS else f' --kinds {kinds}'} --yes"
    if yes:
        from ecrl.launch.system.disk_errors import explain_storage_errors

        with explain_storage_errors(paths, lambda: again):
            found = cleaned(paths, wanted)
    else:
        found = find_leftovers(paths, wanted)
    total = sum(each.num_bytes for each in found)
    if as_json:
        gone = [each.to_json() for each in found]
        print_json({"schema": SCHEMA, "prefix": prefix, "removed": yes, "bytes": total, "leftovers": gone})
        return
    count = format_count(len(found), "leftover")
    for each in found:
        print(f"{each.kind:<11}  {format_bytes(each.num_bytes):>9}  {each.path}")
    if not found:
        print_message(f"nothing to clean in {paths.root}")
    elif yes:
        print_message(f"removed {count}, {format_bytes(total)}")
    else:
        print_message(f"{count} can be removed, {format_bytes(total)}; none was. To remove them, type:\n{again}")
