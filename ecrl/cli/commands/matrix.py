"""`ecrl matrix run | plan | resume`. The read-only commands are in `status.py`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecrl.cli.commands import clean, detached, removal, status
from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import EcrlTyper, LinuxCommand
from ecrl.cli.ui.messages import can_draw, print_json, print_message
from ecrl.units import format_count

if TYPE_CHECKING:
    from ecrl.launch.campaign.preview import Estimate
    from ecrl.launch.campaign.recover import Policy
    from ecrl.launch.campaign.request import Request
    from ecrl.launch.runs.progress import Observer
    from ecrl.launch.system.signals import StopRequest
    from ecrl.records.paths import CampaignPaths

app = EcrlTyper(
    help="Run a matrix of jobs under planned failures; resume it.",
    epilog="Example: ecrl matrix run --prefix mine mine.toml",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_RESULTS = Path("results")
_SHOWN_IDS = 5


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
    jobs: opt.Jobs = None,
    aa: opt.AA = None,
    trackers: opt.Trackers = None,
    settings: opt.Set = None,
    extend: opt.Extend = False,
    detach: opt.Detach = False,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
    only: opt.Only = None,
    limit: opt.Limit = None,
    rerun: opt.Rerun = None,
    retry_failed: opt.RetryFailed = False,
    yes: opt.Yes = False,
) -> None:
    """Run a matrix: one job per suite, variant and seed.

    Repeated under the same prefix, it runs what is pending or was interrupted. Like `resume`, it keeps finished suites,
    and failed ones unless --retry-failed is given.
    """
    request = _request(
        ctx, prefix, matrix, results, profile, extend,
        datasets=datasets, models=models, failures=failures, checkpoint_every=checkpoint_every,
        max_inflight=max_inflight, seeds=seeds, variants=variants, nproc=nproc, device=device, gpus=gpus,
        data_root=data_root, retries=retries, timeout=timeout, jobs=jobs, aa=aa, trackers=trackers, set=settings,
    )  # fmt: skip
    from ecrl.launch.campaign.control import Control
    from ecrl.launch.campaign.recover import Policy
    from ecrl.launch.system.signals import handle_signals

    policy = Policy(
        retry_failed=retry_failed,
        selection=opt.build_selection(request.paths, only, limit, rerun),
    )
    if dry_run:
        _preview(request, policy, as_json)
        return
    if detach:
        detached.start(request.paths, as_json, "--yes")
        return
    with handle_signals() as stop, _open_observer(request.paths) as observer:
        control = Control(observer, stop, confirm=lambda estimate: _confirm(estimate, yes, stop))
        code = control.run(request, policy)
    _finish(request.paths.prefix, results, as_json, code)


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
    jobs: opt.Jobs = None,
    aa: opt.AA = None,
    trackers: opt.Trackers = None,
    settings: opt.Set = None,
    extend: opt.Extend = False,
    count: Annotated[bool, typer.Option("--count", help="Show the number of suites; write nothing.")] = False,
    as_json: opt.AsJson = False,
) -> None:
    """Freeze a matrix and write its manifest. Starts nothing.

    Every suite is pending; `resume` starts them.
    """
    request = _request(
        ctx, prefix, matrix, results, profile, extend,
        datasets=datasets, models=models, failures=failures, checkpoint_every=checkpoint_every,
        max_inflight=max_inflight, seeds=seeds, variants=variants, nproc=nproc, device=device, gpus=gpus,
        data_root=data_root, retries=retries, timeout=timeout, jobs=jobs, aa=aa, trackers=trackers, set=settings,
    )  # fmt: skip
    from ecrl.cli.ui import campaign_tables as shown
    from ecrl.launch.system.signals import exit_on_interrupt

    if count:
        with exit_on_interrupt():
            _count(request, as_json)
        return
    from ecrl.cli.ui.progress_log import ProgressLog
    from ecrl.launch.campaign.control import Control
    from ecrl.launch.campaign.resume_command import resume_command

    with exit_on_interrupt() as stop:
        rows = Control(ProgressLog(), stop).plan(request)
    if as_json:
        print_json(shown.build_status_document(request.paths))
    else:
        told = f"planned {format_count(len(rows), 'suite')} in {request.paths.root}. Start them with:"
        print_message(f"{told}\n{resume_command(request.paths)}")


def resume(
    ctx: typer.Context,
    prefix: opt.Prefix,
    retry_failed: opt.RetryFailed = False,
    only: opt.Only = None,
    limit: opt.Limit = None,
    rerun: opt.Rerun = None,
    assume_dead: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="Treat an ecrl on HOST and its suites as dead. Repeatable."),
    ] = None,
    trackers: opt.Trackers = None,
    results: opt.Results = _RESULTS,
    detach: opt.Detach = False,
    dry_run: opt.DryRun = False,
    as_json: opt.AsJson = False,
) -> None:
    """Continue a campaign from its frozen matrix.

    Finished runs are not repeated, and failed ones only with --retry-failed, as with `run`.
    """
    from ecrl.launch.campaign.control import Control
    from ecrl.launch.campaign.recover import Policy
    from ecrl.launch.campaign.request import Request
    from ecrl.launch.campaign.store import load_frozen
    from ecrl.launch.system.signals import handle_signals
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    if detach and not dry_run:
        detached.start(paths, as_json)
        return
    policy = Policy(
        retry_failed=retry_failed,
        assume_dead=tuple(assume_dead or ()),
        selection=opt.build_selection(paths, only, limit, rerun),
    )
    request = Request(paths, overrides=opt.collect_overrides(ctx, trackers=trackers))
    if dry_run or request.overrides:
        load_frozen(paths)  # raises where there is nothing to resume
    if dry_run:
        _preview(request, policy, as_json)
        return
    with handle_signals() as stop, _open_observer(paths) as observer:
        control = Control(observer, stop)
        code = control.run(request, policy) if request.overrides else control.resume(paths, policy)
    _finish(prefix, results, as_json, code)


def _request(
    ctx: typer.Context,
    prefix: str,
    matrix: Path | None,
    results: Path,
    profile: str | None,
    extend: bool,
    **given: object,
) -> "Request":
    from ecrl.launch.campaign.request import Request
    from ecrl.records.paths import CampaignPaths

    return Request(CampaignPaths(results, prefix), matrix, profile, opt.collect_overrides(ctx, **given), extend)


def _count(request: "Request", as_json: bool) -> None:
    """Print the size of the campaign. Builds only the first suites."""
    from ecrl.launch.campaign.request import resolve_request

    campaign = resolve_request(request).campaign
    for note in campaign.matrix.notes:
        print_message(f"note: {note}")
    axes, suites = campaign.matrix.matrix, len(campaign.suites)
    runs = suites * len(axes.seeds) * len(axes.variants)
    first = [suite.suite_id for suite in campaign.suites[:_SHOWN_IDS]]
    if as_json:
        print_json({"schema": 1, "prefix": request.paths.prefix, "suites": suites, "runs": runs, "first": first})
        return
    each = format_count(campaign.matrix.train_settings.steps, "step")
    print(f"{format_count(suites, 'suite')}, {format_count(runs, 'run')} of {each}; the first suites:")
    print("\n".join(first))


def _preview(request: "Request", policy: "Policy", as_json: bool) -> None:
    from ecrl.cli.ui import campaign_tables as shown
    from ecrl.cli.ui.progress_log import ProgressLog
    from ecrl.launch.campaign.control import Control
    from ecrl.launch.system.signals import exit_on_interrupt

    with exit_on_interrupt() as stop:
        preview = Control(ProgressLog(), stop).preview(request, policy)
    if as_json:
        print_json(preview.to_json())
    else:
        shown.show_preview(preview)


@contextmanager
def _open_observer(paths: "CampaignPaths") -> "Iterator[Observer]":
    """The observer of a campaign: a live display if stderr is a terminal, else plain lines."""
    if can_draw(sys.stderr):
        from ecrl.cli.ui.live_progress import open_live_progress

        with open_live_progress(paths) as progress:
            yield progress
        return
    from ecrl.cli.ui.progress_log import ProgressLog

    yield ProgressLog()


def _confirm(estimate: "Estimate", yes: bool, stop: "StopRequest") -> None:
    """Ask before a large campaign, if stdin and stderr are terminals and `yes` is not set."""
    if yes or not estimate.large or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    import select

    from ecrl.cli.ui import campaign_tables as shown

    print_message(f"{shown.estimate_line(estimate)}\nStart it? [y/N] (--yes does not ask)")
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        stop.raise_if_requested("Nothing was started.")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print_message("Nothing was started.")
        raise typer.Exit(0)


def _finish(prefix: str, results: Path, as_json: bool, code: int) -> None:
    from ecrl.cli.ui import campaign_tables as shown
    from ecrl.records.paths import CampaignPaths

    paths = CampaignPaths(results, prefix)
    if as_json:
        print_json(shown.build_status_document(paths))
    shown.print_summary(paths)
    raise typer.Exit(code)


app.command(cls=LinuxCommand, epilog="Example: ecrl matrix plan --prefix mine mine.toml --count")(plan)
app.command(cls=LinuxCommand, epilog="Example: ecrl matrix run --prefix mine mine.toml --dry-run")(run)
status.register(app)
detached.register(app)
app.command(cls=LinuxCommand, epilog="Example: ecrl matrix resume --prefix mine --dry-run")(resume)
clean.register(app)
removal.register(app)
