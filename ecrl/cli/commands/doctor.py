"""`ecrl doctor`: checks whether this machine is fit for campaigns, and suggests what to change."""

import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import LinuxCommand
from ecrl.cli.ui.messages import print_json, print_message
from ecrl.errors import EXIT_UNFIT
from ecrl.units import format_count

if TYPE_CHECKING:
    from ecrl.launch.doctor.finding import Finding, Requirements

_WIDTH = 80


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", cls=LinuxCommand, epilog="Example: ecrl doctor mine.toml")(doctor)


def doctor(
    matrix: Annotated[
        Path | None,
        typer.Argument(metavar="MATRIX.toml", help="Check the needs of this matrix. Omitted: general needs."),
    ] = None,
    profile: opt.Profile = None,
    results: opt.Results = Path("results"),
    as_json: opt.AsJson = False,
) -> None:
    """Check whether this machine is fit, and advise changes.

    Looks at GPUs and their users, PyTorch, disks, locks, memory, limits and clock. Exits 6 if something makes this
    machine unfit. Locks, flushes and write speed are tried in the results folder and in the folders that the matrix
    names for checkpoints.
    """
    from ecrl.launch.doctor.finding import UNFIT, WARN
    from ecrl.launch.doctor.visit import SCHEMA, run_checks
    from ecrl.launch.system.signals import exit_on_interrupt

    found: list[Finding] = []
    with exit_on_interrupt("Nothing was changed."):
        wanted = None if matrix is None else _compute_requirements(matrix, profile, results)
        for finding in run_checks(results, wanted, print_message):
            found.append(finding)
            if not as_json:
                _print(finding)
                sys.stdout.flush()  # the next check may take long
    counts = {state: sum(finding.state == state for finding in found) for state in (WARN, UNFIT)}
    if as_json:
        told = [finding.to_json() for finding in found]
        print_json({"schema": SCHEMA, "fit": not counts[UNFIT], "findings": told})
    else:
        warned = format_count(counts[WARN], "warning") if counts[WARN] else "no warnings"
        print_message(f"unfit: {counts[UNFIT]} to correct, {warned}" if counts[UNFIT] else f"fit, {warned}")
    if counts[UNFIT]:
        raise typer.Exit(EXIT_UNFIT)


def _compute_requirements(matrix: Path, profile: str | None, results: Path) -> "Requirements | None":
    from ecrl.launch.campaign.preview import compute_estimate
    from ecrl.launch.campaign.request import Request, resolve_request
    from ecrl.launch.runs.experiment import load_kind
    from ecrl.launch.system.signals import StopRequest
    from ecrl.records.paths import CampaignPaths

    campaign = resolve_request(Request(CampaignPaths(results, "doctor"), matrix, profile)).campaign
    kind = load_kind(campaign.matrix.experiment.kind)
    machine = kind.inspect_machine(campaign.matrix, None, print_message, StopRequest())
    estimate = compute_estimate(campaign, kind, machine)
    needed = {use.folder: use.needed for use in estimate.places}
    wanted = machine.compute_requirements(campaign.matrix, needed.get(results, 0))
    if wanted is None:
        return None
    places = (replace(place, needed=needed.get(place.folder, 0)) for place in wanted.places)
    return replace(wanted, places=tuple(places))


def _print(finding: "Finding") -> None:
    """Print one finding in lines of at most 80 columns."""
    head = f"{finding.state:<5}  {finding.check:<15}  "
    indent = " " * len(head)
    print(textwrap.fill(finding.found, _WIDTH, initial_indent=head, subsequent_indent=indent))
    if finding.advice:
        print(textwrap.fill(f"-> {finding.advice}", _WIDTH, initial_indent=indent, subsequent_indent=indent + "   "))
