"""The command `ecrl report`. Its imports are inside the functions, so that other commands do not load them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecrl.cli.commands.counted_again import count_again, exit_if_different
from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.errors import EcrlError

if TYPE_CHECKING:
    from ecrl.analysis.evidence import Evidence
    from ecrl.analysis.next_runs import CommandLines


def _complete_formats(ctx: Any, incomplete: str) -> list[str]:  # noqa: ARG001 (Typer passes both by name)
    """Formats of a report, separated by commas."""
    from ecrl.report.pages.formats import FORMATS

    return complete.complete_last(FORMATS, incomplete)


_BUNDLE = typer.Argument(
    metavar="BUNDLE", help="What `ecrl bundle` wrote, instead of --prefix: verified, and its report made again."
)
_MIX = typer.Option("--mix", help="Pool campaigns although machine, versions or matrix differ; the report says so.")
_TABLE = typer.Option(
    "--table", metavar="FILE", help="A detailed table made elsewhere (nine columns needed), instead of --prefix."
)
_MANIFEST = typer.Option(
    "--manifest", metavar="FILE", help="A manifest beside that table: steps, intervals, seeds, statuses."
)
_OUT = typer.Option(
    "--out", metavar="DIR", help="Where to write. Default: the campaign's folder, or <table>_report beside a table."
)
_FORMAT = typer.Option(
    "--format",
    metavar="A,B",
    autocompletion=_complete_formats,
    help="Some of md, html, csv (tables), json (numbers and their runs), tex (tables, PDFs), parquet (runs).",
)
_CHECK = typer.Option(
    "--check", help="Count goodput, replay and ettr_ref again by SQL; exit 4 where the two counts differ."
)
_COMPARE = typer.Option(
    "--compare",
    metavar="A,B",
    help="The main comparison: variant A against variant B.",
    autocompletion=complete.variants,
)
_REQUIRE = typer.Option("--require-confirmed", help="Exit 4 unless every registered claim is CONFIRMED (for CI).")
_SHOWN_WARNINGS = 20


def report(
    bundle: Annotated[Path | None, _BUNDLE] = None,
    prefix: opt.PooledPrefixes = None,
    table: Annotated[Path | None, _TABLE] = None,
    manifest: Annotated[Path | None, _MANIFEST] = None,
    out: Annotated[Path | None, _OUT] = None,
    results: opt.Results = Path("results"),
    format_: Annotated[str, _FORMAT] = "md,html,csv,json",
    compare: Annotated[str | None, _COMPARE] = None,
    mix: Annotated[bool, _MIX] = False,
    require_confirmed: Annotated[bool, _REQUIRE] = False,
    registration: opt.Registration = None,
    check: Annotated[bool, _CHECK] = False,
) -> None:
    """Write the tables, the analysis and the report of campaigns.

    Several campaigns are pooled; a table that was made elsewhere has a report, too. The written files are listed on
    stdout, and below them the answer; warnings go to stderr. The verdicts do not change the exit code 0.
    """
    with _pause_garbage_collection():
        if bundle is not None:
            _report_bundle(bundle, prefix or [], table, manifest, registration, out, check)
            return
        _report(
            prefix or ([] if table is not None else [opt.choose_prefix(None, results)]),
            table,
            manifest,
            out,
            results,
            format_,
            compare,
            mix,
            require_confirmed,
            registration,
            check=check,
        )


def _report(
    prefix: list[str],
    table: Path | None,
    manifest: Path | None,
    out: Path | None,
    results: Path,
    format_: str,
    chosen: str | None,
    mix: bool,
    require_confirmed: bool,
    registration: Path | None,
    *,
    check: bool,
) -> None:
    from ecrl.report.pages.formats import parse_formats

    _check_manifest(table, manifest)
    _check_registration(prefix, table, registration)
    wanted = parse_formats(format_)  # before pandas is loaded: a slip is answered at once
    from dataclasses import replace

    from ecrl.analysis.campaign.variants import parse_pair
    from ecrl.analysis.claims.result import CONFIRMED
    from ecrl.analysis.external_table.table import load_table_evidence
    from ecrl.errors import EXIT_SOME_FAILED
    from ecrl.report.pages.render import render

    if table is not None:
        if prefix:
            typer.echo(f"note: --table is given, so prefix {', '.join(prefix)} is ignored", err=True)
        if check:
            raise EcrlError("ECRL-104", "--check: found it with --table, expected a campaign: a table has no events.")
        evidence = load_table_evidence(table, manifest)
        evidence = replace(evidence, chosen=None if chosen is None else parse_pair(chosen, evidence.variants))
        folder = out or table.with_name(f"{evidence.prefix}_report")
    else:
        evidence, folder = _load_evidence(prefix, results, out, chosen, mix, registration)
        if check:
            evidence = count_again(evidence, results)
    for shortfall in evidence.shortfalls:
        typer.echo(f"note: {shortfall}", err=True)
    for warning in evidence.warnings[:_SHOWN_WARNINGS]:
        typer.echo(f"warning: {warning}", err=True)
    if (rest := len(evidence.warnings) - _SHOWN_WARNINGS) > 0:
        typer.echo(f"warning: and {rest} more; the analysis file lists them all", err=True)
    for path in render(evidence, folder, wanted):
        typer.echo(str(path))
    _print_answer(evidence)
    verdicts = [judged.verdict for judged in evidence.claims]
    if require_confirmed and (not verdicts or any(verdict != CONFIRMED for verdict in verdicts)):
        found = ", ".join(f"{j.claim.name}: {j.verdict}" for j in evidence.claims) or "no registered claim"
        typer.echo(f"--require-confirmed: {found}", err=True)
        raise typer.Exit(EXIT_SOME_FAILED)
    if evidence.recount is not None:
        exit_if_different(evidence.recount)


def _check_manifest(table: Path | None, manifest: Path | None) -> None:
    """Raise if a manifest is given without the table that it belongs to."""
    if table is None and manifest is not None:
        raise EcrlError(
            "ECRL-104", "--manifest: found it without --table, expected both: a campaign has its own manifest."
        )


def _print_answer(evidence: "Evidence") -> None:
    """Print the answer: as Markdown, or on a terminal with tables that fit it."""
    import sys

    from ecrl.report.pages.render import format_answer, split_answer

    if not sys.stdout.isatty():
        if answer := format_answer(evidence):
            typer.echo(f"\n{answer}")
        return
    from ecrl.cli.ui.tables import fit_table, print_table

    sentences, tables = split_answer(evidence)
    for text in sentences:
        typer.echo(f"\n{text}\n")
    for header, rows in tables:
        print_table("", *fit_table(header, rows))


def _check_registration(prefix: list[str], table: Path | None, registration: Path | None) -> None:
    """Raise if a registration is given for something else than one campaign."""
    if registration is not None and (table is not None or len(prefix) > 1):
        with_what = "--table" if table is not None else f"{len(prefix)} campaigns"
        raise EcrlError("ECRL-104", f"--registration: found it with {with_what}, expected it with one --prefix.")


def _report_bundle(
    bundle: Path,
    prefix: list[str],
    table: Path | None,
    manifest: Path | None,
    registration: Path | None,
    out: Path | None,
    check: bool,
) -> None:
    """Verify a bundle, make its report again, and say whether it is the same."""
    from ecrl.cli.commands.bundled_report import report_bundle

    others = {"--table": table, "--manifest": manifest, "--registration": registration}
    if given := [name for name, value in others.items() if value is not None]:
        raise EcrlError(
            "ECRL-104", f"{bundle}: found {', '.join(given)} with it, expected a bundle alone: it has its own."
        )
    if prefix:
        typer.echo(f"note: {bundle} is given, so prefix {', '.join(prefix)} is ignored", err=True)
    report_bundle(bundle, out, check=check)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Disable Python's cyclic garbage collector while the block runs."""
    import gc

    # Events and imports make hundreds of thousands of small objects without cycles. Searching them again and again
    # would take a fifth of a report's time.
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _load_evidence(
    prefixes: list[str], results: Path, out: Path | None, chosen: str | None, mix: bool, registration: Path | None
) -> "tuple[Evidence, Path]":
    """The evidence of one campaign, or of several pooled ones, and the folder of its report.

    The folder is `out` if given, else the campaign's own folder; for several campaigns it is `A+B` in `results`.
    """
    from os.path import relpath

    from ecrl.analysis.campaign.load import load_campaign
    from ecrl.analysis.campaign.pool import pool
    from ecrl.analysis.campaign.variants import parse_pair
    from ecrl.analysis.evidence import build_evidence
    from ecrl.records.paths import CampaignPaths
    from ecrl.report.pages.calibration import read_calibrations

    paths = [CampaignPaths(results, prefix) for prefix in prefixes]
    found = [load_campaign(one, registration) for one in paths]
    whole = found[0] if len(found) == 1 else pool(found, mix=mix)
    folder = out or results / whole.prefix
    folders = {one.prefix: relpath(one.root, folder) for one in paths}
    calibrations = read_calibrations(paths[0]) if len(paths) == 1 else ()
    pair = None if chosen is None else parse_pair(chosen, whole.matrix.matrix.variants)
    return build_evidence(whole, _command_lines(results), folders, calibrations, pair), folder


def _command_lines(results: Path) -> "CommandLines":
    """The program and the results folder for the commands that a report suggests, as relative paths."""
    # A report must not contain absolute paths.
    import shutil
    import sys
    from os.path import relpath

    from ecrl.analysis.next_runs import CommandLines
    from ecrl.records.paths import find_current_folder

    here = find_current_folder() or "/"
    own = Path(sys.argv[0])
    program = "ecrl" if own.name != "ecrl" or shutil.which("ecrl") else relpath(own, here)
    return CommandLines(program, relpath(results, here))


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("report", epilog="Example: ecrl report --prefix mine --format md,html")(report)
