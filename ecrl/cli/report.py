"""`ecrl report`: parse, call, show. What it needs is imported inside, so that other commands do not load it."""

from pathlib import Path
from typing import Annotated

import typer

_PREFIX = typer.Option("--prefix", envvar="MATRIX_PREFIX", help="The campaign to report on; see `ecrl matrix list`.")
_TABLE = typer.Option("--table", help="A detailed table made elsewhere (nine columns needed), instead of --prefix.")
_MANIFEST = typer.Option("--manifest", help="A manifest beside that table: intervals, seeds, statuses.")
_OUT = typer.Option("--out", help="Where to write. Default: the campaign's folder, or <table>_report beside a table.")
_RESULTS = typer.Option("--results", help="The folder that holds the campaigns.")
_FORMAT = typer.Option("--format", help="Comma-separated: md (analysis and report), html, csv (tables).")
_REQUIRE = typer.Option("--require-confirmed", help="Exit 4 unless every registered claim is CONFIRMED (for CI).")
_SHOWN_WARNINGS = 20


def report(
    prefix: Annotated[str | None, _PREFIX] = None,
    table: Annotated[Path | None, _TABLE] = None,
    manifest: Annotated[Path | None, _MANIFEST] = None,
    out: Annotated[Path | None, _OUT] = None,
    results: Annotated[Path, _RESULTS] = Path("results"),
    format_: Annotated[str, _FORMAT] = "md,html,csv",
    require_confirmed: Annotated[bool, _REQUIRE] = False,
) -> None:
    """Write tables, analysis and a report draft of a campaign, or of somebody else's detailed table.

    The files written are listed on stdout, warnings go to stderr. Exits 0 whatever the verdicts.
    """
    from ecrl.analysis.claims import CONFIRMED
    from ecrl.analysis.evidence import Evidence, of_campaign
    from ecrl.analysis.foreign import of_table
    from ecrl.analysis.load import campaign
    from ecrl.errors import EXIT_SOME_FAILED, EcrlError
    from ecrl.records.paths import CampaignPaths, all_prefixes
    from ecrl.report.render import formats, render

    wanted = formats(format_)
    evidence: Evidence
    if table is not None:
        if prefix is not None:
            typer.echo(f"note: --table is given, so prefix {prefix!r} is not looked at", err=True)
        evidence = of_table(table, manifest)
        folder = out or table.with_name(f"{evidence.prefix}_report")
    elif prefix is not None:
        if manifest is not None:
            raise EcrlError("--manifest: belongs to --table; a campaign has its own.")
        paths = CampaignPaths(results, prefix)
        evidence = of_campaign(campaign(paths), _relative(paths.matrix))
        folder = out or paths.root
    else:
        known = all_prefixes(results)
        there = f"There are: {', '.join(known)}." if known else f"No campaign is in {results}/."
        raise EcrlError(f"Found neither --prefix nor --table, expected one of them. {there}\nTry `ecrl report --help`.")
    for warning in evidence.warnings[:_SHOWN_WARNINGS]:
        typer.echo(f"warning: {warning}", err=True)
    if (rest := len(evidence.warnings) - _SHOWN_WARNINGS) > 0:
        typer.echo(f"warning: and {rest} more; the analysis file lists them all", err=True)
    for path in render(evidence, folder, wanted):
        typer.echo(str(path))
    verdicts = [judged.verdict for judged in evidence.claims]
    if require_confirmed and (not verdicts or any(verdict != CONFIRMED for verdict in verdicts)):
        found = ", ".join(f"{j.claim.name}: {j.verdict}" for j in evidence.claims) or "no registered claim"
        typer.echo(f"--require-confirmed: {found}", err=True)
        raise typer.Exit(EXIT_SOME_FAILED)


def _relative(path: Path) -> str:
    """How a path is called in a command to type here: relative, as a report must not hold absolute paths."""
    from os.path import relpath

    return relpath(path)


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("report")(report)
