"""`ecrl selftest`: checks that snapshots are never torn and that fences are needed; or how often claims err."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import complete
from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import LinuxCommand
from ecrl.cli.ui.messages import plain_table, print_json, print_message
from ecrl.errors import EcrlError
from ecrl.units import format_duration

if TYPE_CHECKING:
    from ecrl.selftest.runner import Check, Report

_HEADER = ["verdict", "check", "evidence"]
_UPPER_CASE_VERDICTS = {"torn": "TORN", "wrong": "WRONG"}


def register(app: typer.Typer) -> None:
    """Add the command to the main application."""
    app.command("selftest", cls=LinuxCommand, epilog="Example: ecrl selftest --device cpu")(selftest)


def selftest(
    device: Annotated[
        str | None,
        typer.Option(
            metavar="cpu|cuda",
            help="The device whose snapshots are checked.",
            show_default=False,
            autocompletion=complete.choice("cpu", "cuda"),
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The model that is trained during the checks.",
            autocompletion=complete.member("model"),
        ),
    ] = "resnet18",
    steps: Annotated[int, typer.Option(metavar="N", help="Snapshots in each check of the unmodified code.")] = 20,
    as_json: opt.AsJson = False,
    statistics: Annotated[
        bool,
        typer.Option("--statistics", help="Simulate how often the claims of --prefix err, instead (some minutes)."),
    ] = False,
    prefix: opt.OnlyPrefix = None,
    results: opt.Results = Path("results"),
    trials: Annotated[
        int, typer.Option(metavar="N", min=10, help="With --statistics: simulated campaigns of each kind.")
    ] = 400,
) -> None:
    """Prove that snapshots are never torn on this machine.

    Also proves that every fence is needed. Takes about a minute.

    With --statistics: simulate campaigns of the shape and with the spreads of --prefix, and say how often its claims
    are falsely CONFIRMED or REFUTED, how often their intervals hold the truth, and how often they are decided. The
    report of the campaign shows the figures from then on.

    Exit code 0: all checks passed. 4: a snapshot was torn, another promise is broken, or a check was inconclusive.
    """
    if statistics:
        _calibrate(prefix, results, trials, as_json)
        return
    if device is None:
        raise EcrlError(
            "ECRL-102",
            "--device: found nothing, expected cpu or cuda (or --statistics --prefix PREFIX).\n"
            "Try `ecrl selftest --device cpu`.",
        )
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
        report = Selftest(device, model, steps).run(stop, show, print_message)
    if as_json:
        print_json(report.to_json())
    elif table:
        _print_table(report)
    print_message(_summary(report))
    raise typer.Exit(report.exit_code)


def _calibrate(prefix: str | None, results: Path, trials: int, as_json: bool) -> None:
    """Simulate campaigns of the shape of `prefix`, print the rates and keep them for its report."""
    from dataclasses import asdict

    from ecrl.analysis.campaign.load import load_campaign
    from ecrl.analysis.claims.calibration import calibrate
    from ecrl.analysis.evidence import build_evidence
    from ecrl.records.paths import CampaignPaths
    from ecrl.report.pages.calibration import build_table, write_calibrations

    paths = CampaignPaths(results, opt.choose_prefix(prefix, results))
    claims = build_evidence(load_campaign(paths)).claims
    found = []
    for one in calibrate(claims, trials):
        print_message(f"simulated: {one.name}")
        found.append(one)
    left = [judged.claim.name for judged in claims if judged.claim.name not in {one.name for one in found}]
    if left:
        why = "they name no effect, or their runs show no spread (two seeds or more do)"
        print_message(f"not simulated: {', '.join(left)}: {why}")
    if not found:
        raise EcrlError(
            "ECRL-716",
            f"{paths.prefix}: found no claim that can be simulated, expected one on an effect in runs with a"
            f" spread.\nAdd `[[claims]]` and a second seed to the matrix.",
        )
    path = write_calibrations(paths, found)
    if as_json:
        print_json({"schema": 1, "claims": [asdict(one) for one in found]})
    else:
        headers, rows, text = build_table(found)
        typer.echo(f"{plain_table(headers, rows)}\n{text}")
    print_message(f"{path}: the report of {paths.prefix} shows this")


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
