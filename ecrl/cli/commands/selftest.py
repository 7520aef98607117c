"""`ecrl selftest`: checks that snapshots are never torn on this machine and that every fence is needed."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.ui.messages import print_json, print_message
from ecrl.units import format_duration

if TYPE_CHECKING:
    from ecrl.selftest.runner import Check, Report

_HEADER = ["verdict", "check", "evidence"]
_UPPER_CASE_VERDICTS = {"torn": "TORN", "wrong": "WRONG"}


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("selftest")(selftest)


def selftest(
    device: Annotated[
        str, typer.Option(metavar="cpu|cuda", help="The device whose snapshots are checked.", show_default=False)
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME", help="The model that is trained during the checks.")
    ] = "resnet18",
    steps: Annotated[int, typer.Option(metavar="N", help="Snapshots in each check of the unmodified code.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Prove on this machine that snapshots are never torn and that every fence is needed (about a minute).

    Exit code 0: all checks passed. 4: a snapshot was torn, another promise is broken, or a check was inconclusive.
    """
    from ecrl.launch.system.signals import handle_signals
    from ecrl.selftest.runner import Selftest

    table = sys.stdout.isatty() and not as_json

    def show(check: "Check") -> None:
        line = f"{_format_verdict(check.verdict)}: {check.name}"
        if table:
            print_message(f"{line} ({format_duration(check.wall_s)})")
        elif as_json:
            print_message(f"{line}: {check.evidence}")
        else:
            sys.stdout.write(f"{line}: {check.evidence}\n")
            sys.stdout.flush()

    with handle_signals() as stop:
        report = Selftest(device, model, steps).run(stop, show)
    if as_json:
        print_json(report.to_json())
    elif table:
        _print_table(report)
    print_message(_summary(report))
    raise typer.Exit(report.exit_code)


def _print_table(report: "Report") -> None:
    rows = [[_format_verdict(check.verdict), check.name, check.evidence] for check in report.checks]
    from ecrl.cli.ui.tables import print_table

    print_table(f"selftest --device {report.device}", _HEADER, rows)


def _summary(report: "Report") -> str:
    facts = report.machine
    versions = f"torch {facts.get('torch')}"
    if report.device == "cuda":
        versions += f", CUDA {facts.get('cuda')}, driver: {facts.get('driver')}"
    took = f"{len(report.checks)} checks in {format_duration(report.wall_s)}"
    return f"selftest: {_format_verdict(report.verdict)} on {facts.get('device_name')} ({versions}), {took}"


def _format_verdict(verdict: str) -> str:
    return _UPPER_CASE_VERDICTS.get(verdict, verdict)
