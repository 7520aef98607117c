"""`ecrl report --check`: the main metrics counted a second time. Its imports are inside the functions."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from ecrl.analysis.evidence import Evidence
    from ecrl.analysis.recount.recount import Recount


def count_again(evidence: "Evidence", results: Path) -> "Evidence":
    """The evidence with the second count, which is printed."""
    from dataclasses import replace

    from ecrl.analysis.recount.recount import check_extra, recount
    from ecrl.records.paths import CampaignPaths

    check_extra()
    folders = {
        run.key: CampaignPaths(results, run.facts.get("campaign", evidence.prefix)).run(*run.key).folder
        for run in evidence.runs
    }
    found = recount(evidence.rows, folders)
    for sentence in found.sentences:
        typer.echo(f"check: {sentence}", err=True)
    return replace(evidence, recount=found)


def exit_if_different(found: "Recount") -> None:
    """Exit with 4 if the two counts differ anywhere."""
    from ecrl.errors import EXIT_SOME_FAILED

    if found.differences:
        raise typer.Exit(EXIT_SOME_FAILED)
