"""`ecrl matrix run | plan | resume | status | list`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli import options as opt
from ecrl.cli.messages import STDERR, print_json, say

if TYPE_CHECKING:
    from ecrl.launch.campaign import Request
    from ecrl.launch.estimate import Estimate
    from ecrl.launch.progress import Observer
    from ecrl.launch.signals import StopRequest

app = typer.Typer(
    help="Run a matrix of training jobs under planned failures, and pick it up again whatever stopped it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_RESULTS = Path("results")


@app.command()
def run(
    ctx: typer.Context,
    prefix: opt.Prefix,
    matrix: opt.MatrixFile = None,
    profile: opt.Profile = None,
    datasets: opt.Datasets = None,
    models: opt.Models = None,
    failures: opt.Failures = None,
    checkpoint_every: opt.CheckpointEvery = None,
    max_inflight: opt.MaxInflight = None,
    seeds: opt.Seeds = None,
    variants: opt.Variants = None,
    nproc: opt.Nproc = None,
    device: opt.Device = None,
    gpus: opt.Gpus = None,
    data_root: opt.DataRoot = None,
    results: opt.Results = _RESULTS,
    retries: opt.Retries = None,
    timeout: opt.Timeout = None,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    yes: opt.Yes = False,
) -> None:
    """Run a matrix: every suite, variant and seed, one torchrun job each.

    Run under the same prefix again, finished suites are kept (skipped_exists); failed and interrupted ones run.
    """
    request = _request(
        ctx, prefix, matrix, results, profile,
        datasets=datasets, models=models, failures=failures, checkpoint_every=checkpoint_every,
        max_inflight=max_inflight, seeds=seeds, variants=variants, nproc=nproc, device=device, gpus=gpus,
        data_root=data_root, retries=retries, timeout=timeout,
    )  # fmt: skip
    if dry_run:
        _preview(request, as_json)
        return
    from ecrl.launch.control import Control
    from ecrl.launch.signals import handled
    from ecrl.launch.takeover import Policy

    with handled() as stop, _watching() as observer:
        control = Control(observer, stop, confirm=lambda estimate: _confirm(estimate, yes, stop))
        code = control.run(request, Policy(retry_failed=True, mark_skipped=request.paths.matrix.is_file()))
    _finish(request.paths.prefix, results, as_json, code)


@app.command()
def plan(
    ctx: typer.Context,
    prefix: opt.Prefix,
    matrix: opt.MatrixFile = None,
    profile: opt.Profile = None,
    datasets: opt.Datasets = None,
    models: opt.Models = None,
    failures: opt.Failures = None,
    checkpoint_every: opt.CheckpointEvery = None,
    max_inflight: opt.MaxInflight = None,
    seeds: opt.Seeds = None,
    variants: opt.Variants = None,
    nproc: opt.Nproc = None,
    device: opt.Device = None,
    gpus: opt.Gpus = None,
    data_root: opt.DataRoot = None,
    results: opt.Results = _RESULTS,
    retries: opt.Retries = None,
    timeout: opt.Timeout = None,
    as_json: opt.AsJson = False,
) -> None:
    """Freeze a matrix and write its manifest, every suite pending. Starts nothing; `resume` starts it."""
    request = _request(
        ctx, prefix, matrix, results, profile,
        datasets=datasets, models=models, failures=failures, checkpoint_every=checkpoint_every,
        max_inflight=max_inflight, seeds=seeds, variants=variants, nproc=nproc, device=device, gpus=gpus,
        data_root=data_root, retries=retries, timeout=timeout,
    )  # fmt: skip
    from ecrl.cli import status as shown
    from ecrl.launch.control import Control, resume_command
    from ecrl.launch.signals import handled

    with handled() as stop, _watching(still=True) as observer:
        rows = Control(observer, stop).plan(request)
    if as_json:
        print_json(shown.document(request.paths))
    else:
        say(f"planned {len(rows)} suites in {request.paths.root}. Start them with:\n{resume_command(request.paths)}")


@app.command()
def resume(
    prefix: opt.Prefix,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed suites again, too.")] = False,
    assume_dead: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Take what ecrl left running on HOST for dead. Repeatable."),
    ] = None,
    results: opt.Results = _RESULTS,
    as_json: opt.AsJson = False,
) -> None:
    """Continue what is not done of a campaign. The frozen matrix is the source; nothing finished is repeated."""
    from ecrl.launch.control import Control
    from ecrl.launch.signals import handled
    from ecrl.launch.takeover import Policy
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    with handled() as stop, _watching() as observer:
        policy = Policy(retry_failed=retry_failed, assume_dead=tuple(assume_dead or ()))
        code = Control(observer, stop).resume(paths, policy)
    _finish(prefix, results, as_json, code)


@app.command()
def status(prefix: opt.Prefix, results: opt.Results = _RESULTS, as_json: opt.AsJson = False) -> None:
    """Show every suite of a campaign; failed ones with the reason and the log."""
    from ecrl.cli import status as shown
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    if as_json:
        print_json(shown.document(paths))
    else:
        shown.show_status(paths)


@app.command("list")
def list_prefixes(results: opt.Results = _RESULTS, as_json: opt.AsJson = False) -> None:
    """Show every campaign in the results folder."""
    from ecrl.cli import status as shown

    if as_json:
        print_json(shown.list_document(results))
    else:
        shown.show_list(results)


def _request(
    ctx: typer.Context, prefix: str, matrix: Path | None, results: Path, profile: str | None, **given: object
) -> "Request":
    from ecrl.launch.campaign import Request
    from ecrl.records.paths import CampaignPaths

    return Request(CampaignPaths(results, prefix), matrix, profile, opt.overrides(ctx, **given))


def _preview(request: "Request", as_json: bool) -> None:
    from ecrl.cli import status as shown
    from ecrl.launch.control import Control
    from ecrl.launch.signals import handled

    with handled() as stop, _watching(still=True) as observer:
        preview = Control(observer, stop).preview(request)
    if as_json:
        print_json(preview.to_json())
    else:
        shown.show_preview(preview)


@contextmanager
def _watching(*, still: bool = False) -> "Iterator[Observer]":
    """Live progress on a terminal, plain lines elsewhere (`still`: there is nothing to animate)."""
    from ecrl.cli.plain import PlainView

    if still or not STDERR.isatty():
        yield PlainView()
        return
    from ecrl.cli.view import live_view

    with live_view() as view:
        yield view


def _confirm(estimate: "Estimate", yes: bool, stop: "StopRequest") -> None:
    """Ask a person before a large campaign; scripts are not asked."""
    if yes or not estimate.large or not (sys.stdin.isatty() and STDERR.isatty()):
        return
    import select

    from ecrl.cli import status as shown

    say(f"{shown.estimate_line(estimate)}\nStart it? [y/N] (--yes does not ask)")
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        stop.check("Nothing was started.")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        say("Nothing was started.")
        raise typer.Exit(0)


def _finish(prefix: str, results: Path, as_json: bool, code: int) -> None:
    from ecrl.cli import status as shown
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    if as_json:
        print_json(shown.document(paths))
    shown.say_ending(paths)
    raise typer.Exit(code)
