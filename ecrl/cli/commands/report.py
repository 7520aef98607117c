"""The command `ecrl report`. Its imports are inside the functions, so that other commands do not load them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.commands.counted_again import count_again, exit_if_different
from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.ui.messages import print_message
from ecrl.errors import EcrlError
from ecrl.launch.system.wait import keep_saying

if TYPE_CHECKING:
    from ecrl.analysis.evidence import Evidence
    from ecrl.analysis.next_runs import CommandLines


def _complete_formats(incomplete: str) -> list[str]:
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
_NARROW = 20  # columns, where a terminal does not tell its width
_SHOWN_WARNINGS = 20


@dataclass(frozen=True)
class _Request:
    """What the user asked for, in the words of the options. chosen: the variants of --compare."""

    bundle: Path | None
    prefixes: list[str]
    table: Path | None
    manifest: Path | None
    out: Path | None
    results: Path
    formats: str
    chosen: str | None
    mix: bool
    require_confirmed: bool
    registration: Path | None
    check: bool


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
    only = not prefix and bundle is None and table is None
    asked = _Request(
        bundle=bundle,
        prefixes=[opt.choose_prefix(None, results)] if only else prefix or [],
        table=table,
        manifest=manifest,
        out=out,
        results=results,
        formats=format_,
        chosen=compare,
        mix=mix,
        require_confirmed=require_confirmed,
        registration=registration,
        check=check,
    )
    _refuse_strange_company(asked)
    with _pause_garbage_collection():
        if bundle is None:
            _report(asked)
        else:
            from ecrl.cli.commands.bundled_report import report_bundle

            with keep_saying("the report", print_message):
                report_bundle(bundle, out, check=check)


def _refuse_strange_company(asked: _Request) -> None:
    """Raise if options are given together that contradict each other; say which ones are ignored."""
    source = "--table" if asked.table is not None else f"{len(asked.prefixes)} campaigns"
    if asked.bundle is not None:
        others = {"--table": asked.table, "--manifest": asked.manifest, "--registration": asked.registration}
        if given := [name for name, value in others.items() if value is not None]:
            raise EcrlError(
                "ECRL-104",
                f"{asked.bundle}: found {', '.join(given)} with it, expected a bundle alone: it has its own.",
            )
    if asked.table is None and asked.manifest is not None:
        raise EcrlError(
            "ECRL-104", "--manifest: found it without --table, expected both: a campaign has its own manifest."
        )
    if asked.registration is not None and (asked.table is not None or len(asked.prefixes) > 1):
        raise EcrlError("ECRL-104", f"--registration: found it with {source}, expected it with one --prefix.")
    if asked.table is not None and asked.check:
        raise EcrlError("ECRL-104", "--check: found it with --table, expected a campaign: a table has no events.")
    if asked.prefixes and (instead := asked.bundle or asked.table) is not None:
        named = instead if asked.bundle is not None else "--table"
        typer.echo(f"note: {named} is given, so prefix {', '.join(asked.prefixes)} is ignored", err=True)


def _report(asked: _Request) -> None:
    from ecrl.report.pages.formats import parse_formats

    wanted = parse_formats(asked.formats)  # before pandas is loaded: a slip is answered at once
    with keep_saying("the report", print_message):
        # These load pandas, scipy and matplotlib: seconds on a busy machine.
        from ecrl.analysis.claims.result import CONFIRMED
        from ecrl.errors import EXIT_SOME_FAILED
        from ecrl.report.pages.render import render

        evidence, folder = _load_table(asked, asked.table) if asked.table is not None else _load_evidence(asked)
        if asked.check:
            evidence = count_again(evidence, asked.results)
        for shortfall in evidence.shortfalls:
            typer.echo(f"note: {shortfall}", err=True)
        for warning in evidence.warnings[:_SHOWN_WARNINGS]:
            typer.echo(f"warning: {warning}", err=True)
        if (rest := len(evidence.warnings) - _SHOWN_WARNINGS) > 0:
            typer.echo(f"warning: and {rest} more; the analysis file lists them all", err=True)
        written = render(evidence, folder, wanted)
        show_answer = _prepare_answer(evidence)
    for path in written:
        typer.echo(str(path))
    show_answer()
    verdicts = [judged.verdict for judged in evidence.claims]
    if asked.require_confirmed and (not verdicts or any(verdict != CONFIRMED for verdict in verdicts)):
        found = ", ".join(f"{j.claim.name}: {j.verdict}" for j in evidence.claims) or "no registered claim"
        typer.echo(f"--require-confirmed: {found}", err=True)
        raise typer.Exit(EXIT_SOME_FAILED)
    if evidence.recount is not None:
        exit_if_different(evidence.recount)


def _prepare_answer(evidence: "Evidence") -> Callable[[], None]:
    """Compute the answer, which may take long. What is returned prints it: as Markdown, or on a terminal with tables
    that fit it."""
    import sys

    from ecrl.report.pages.render import format_answer, split_answer

    if not sys.stdout.isatty():
        answer = format_answer(evidence)
        return lambda: typer.echo(f"\n{answer}") if answer else None
    sentences, tables = split_answer(evidence)
    return lambda: _print_answer(sentences, tables)


def _print_answer(sentences: Sequence[str], tables: "Sequence[tuple[list[str], list[list[str]]]]") -> None:
    import shutil
    import textwrap

    from ecrl.cli.ui.tables import fit_table, print_table

    for text in sentences:
        typer.echo(f"\n{textwrap.fill(text, max(shutil.get_terminal_size().columns, _NARROW))}\n")
    for header, rows in tables:
        print_table("", *fit_table(header, rows))


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


def _load_table(asked: _Request, table: Path) -> "tuple[Evidence, Path]":
    """The evidence of a table that was made elsewhere, and the folder of its report."""
    from dataclasses import replace

    from ecrl.analysis.campaign.variants import parse_pair
    from ecrl.analysis.external_table.table import load_table_evidence

    evidence = load_table_evidence(table, asked.manifest)
    pair = None if asked.chosen is None else parse_pair(asked.chosen, evidence.variants)
    return replace(evidence, chosen=pair), asked.out or table.with_name(f"{evidence.prefix}_report")


def _load_evidence(asked: _Request) -> "tuple[Evidence, Path]":
    """The evidence of one campaign, or of several pooled ones, and the folder of its report.

    The folder is `--out` if given, else the campaign's own folder; for several campaigns it is `A+B` in `results`.
    """
    from os.path import relpath

    from ecrl.analysis.campaign.load import load_campaign
    from ecrl.analysis.campaign.pool import pool
    from ecrl.analysis.campaign.variants import parse_pair
    from ecrl.analysis.evidence import build_evidence
    from ecrl.records.paths import CampaignPaths
    from ecrl.report.pages.calibration import read_calibrations

    results = asked.results
    paths = [CampaignPaths(results, prefix) for prefix in asked.prefixes]
    found = [load_campaign(one, asked.registration) for one in paths]
    whole = found[0] if len(found) == 1 else pool(found, mix=asked.mix)
    folder = asked.out or results / whole.prefix
    folders = {one.prefix: relpath(one.root, folder) for one in paths}
    calibrations = read_calibrations(paths[0]) if len(paths) == 1 else ()
    pair = None if asked.chosen is None else parse_pair(asked.chosen, whole.matrix.matrix.variants)
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
