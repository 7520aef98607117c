"""Status, list and preview of campaigns, as tables and as JSON. Loads rich only for a terminal."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecrl.cli.ui.lines import describe_run, format_counts
from ecrl.cli.ui.messages import plain_table, print_message
from ecrl.launch.system.process_identity import Liveness, check_owner, find_campaign_pids
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import FAILED, INTERRUPTED, PENDING, RUNNING, STATUSES, Row, View
from ecrl.records.paths import CampaignPaths, all_prefixes
from ecrl.units import format_bytes, format_count, format_duration

if TYPE_CHECKING:
    from ecrl.launch.campaign.preview import Estimate, Preview

SCHEMA = 1
_MANY = 1000  # rows of a table that a person may still scroll through
_NOTABLE = (RUNNING, FAILED, INTERRUPTED)


def build_status_document(paths: CampaignPaths) -> dict[str, Any]:
    """The document of `status --json`. Its suites are an iterator."""
    view = _view(paths)
    suites = (row.to_json() for row in view.rows.values())
    return {"schema": SCHEMA, "prefix": paths.prefix, "counts": view.counts, "suites": suites}


def build_list_document(results: Path) -> dict[str, Any]:
    """The document of `list --json`."""
    campaigns = []
    for paths, view in manifest.read_all(results, print_message):
        _warn(view)
        campaigns.append({"prefix": paths.prefix, "suites": len(view.rows), "counts": view.counts})
    return {"schema": SCHEMA, "prefixes": campaigns}


def show_status(paths: CampaignPaths, everything: bool = False) -> None:
    """Show a row for every suite, then the failed suites and those whose ecrl died.

    A large campaign is limited to the suites that run, failed or were interrupted, unless `everything` is set.
    """
    view = _view(paths)
    few = everything or len(view.rows) <= _MANY
    names = [name for name, status in view.rows.statuses().items() if few or status in _NOTABLE]
    shown = [view.rows[name] for name in (names if few else names[:_MANY])]
    header, rows = _add_axes(["suite", "status", "runs", "wall"], [_status_cells(row) for row in shown], shown)
    title = f"{paths.prefix}: {format_counts(view.counts)}"
    if rows:
        show_table(title, header, rows, status_column=header.index("status"))
    else:
        print(title)
    if len(shown) < len(view.rows):
        print_message(f"{len(view.rows) - len(shown)} more suites are not shown: {_command('status', paths)} --all")
    if any(view.counts[status] for status in (PENDING, INTERRUPTED)):
        _show_wait(paths)
    for row in shown:
        if row.status == FAILED:
            reason, _, log = row.message.rpartition("; log: ")
            print(f"failed {row.suite_id}\n  {reason or log}")
            if reason:
                print(f"  log: {paths.root / log}")
        elif row.status == RUNNING and check_owner(row.owner) is Liveness.DEAD:
            print(f"{row.suite_id}: its ecrl is gone{_describe_leftovers(paths)}. Type: {_command('resume', paths)}")
        elif row.status == RUNNING:
            _show_running(row, paths)
    if view.counts[FAILED]:
        print_message(f"To run failed suites again, type: {_command('resume', paths)} --retry-failed")


def _show_wait(paths: CampaignPaths) -> None:
    from ecrl.launch.campaign.lock import holder

    if (held := holder(paths)) is not None and held.waits_for:
        print(f"pid {held.owner.pid} is waiting for {held.waits_for}")


def _show_running(row: Row, paths: CampaignPaths) -> None:
    from ecrl.launch.views.snapshot import describe_suite_once

    print(f"{row.suite_id}: {describe_run(describe_suite_once(row, paths))}")


def _describe_leftovers(paths: CampaignPaths) -> str:
    """The number of processes on this host that a killed ecrl left running, as text; '' if there are none."""
    number = len(find_campaign_pids(paths.root.resolve()))
    left = format_count(number, "orphaned process", "orphaned processes")
    return f" ({left}; resume ends them)" if number else ""


def show_list(results: Path) -> None:
    """Show a row for every campaign."""
    listed = build_list_document(results)["prefixes"]
    if not listed:
        if not all_prefixes(results):
            options = CampaignPaths(results, "P").options
            print_message(f"no campaign in {results}/ yet. Type: ecrl matrix run {options} MATRIX.toml")
        return
    shown = [name for name in STATUSES if any(c["counts"][name] for c in listed)]
    rows = [[c["prefix"], str(c["suites"]), *(str(c["counts"][name]) for name in shown)] for c in listed]
    show_table(f"campaigns in {results}/", ["prefix", "suites", *shown], rows)


def show_preview(preview: "Preview") -> None:
    """Show the preview of `--dry-run`: every suite with its runs in the order they would run, then the sums."""
    rows, suites = [], []
    for row in preview.rows:
        of_suite = preview.runs[row.suite_id]
        for seed in row.seeds:
            block = [planned for planned in of_suite if planned.spec.seed == seed]
            order = " ".join(p.spec.folder_name if p.todo else f"({p.spec.folder_name}: {p.state})" for p in block)
            rows.append([row.suite_id, str(seed), order])
            suites.append(row)
    device = preview.campaign.matrix.run.device
    ranks, steps = (
        " or ".join(map(str, dict.fromkeys(getattr(r, name) for r in suites))) for name in ("nproc", "steps")
    )
    title = f"{preview.campaign.paths.prefix}: {_name(ranks, 'rank')} on {device}, {_name(steps, 'step')} a run"
    header, rows = _add_axes(["suite", "seed", "runs, in this order"], rows, suites)
    show_table(title, header, rows)
    print("\n".join(_describe_failures(preview.rows)))
    print(estimate_line(preview.estimate))
    if preview.estimate.runs_todo:
        print(_describe_expected_time(preview))


def _describe_failures(rows: Sequence[Row]) -> Iterator[str]:
    """A line for every schedule: where its failures strike, for each interval apart if they depend on it."""
    every: dict[tuple[str, tuple[int | str, ...]], list[int]] = {}
    for row in rows:
        intervals = every.setdefault((row.failure_label, row.failure_steps), [])
        intervals += [] if row.checkpoint_every in intervals else [row.checkpoint_every]
    labels = [label for label, _ in every]
    for (label, struck), intervals in every.items():
        when = f" (checkpoint_every {', '.join(map(str, intervals))})" if labels.count(label) > 1 else ""
        yield f"failures of {label}{when}: {', '.join(map(str, struck)) or 'no failures'}"


def _name(numbers: str, noun: str) -> str:
    """'1 rank', '2 ranks', '2 or 4 ranks'."""
    return f"{numbers} {noun}" if numbers == "1" else f"{numbers} {noun}s"


def _describe_expected_time(preview: "Preview") -> str:
    expected, runs = preview.expected_time, preview.estimate.runs_todo
    if not expected.runs:
        return f"time: no campaign in {preview.campaign.paths.results}/ measured these suites: unknown until a run ends"
    warm = ", and the warm-up" if preview.estimate.warmups else ""
    measured = f"as in {', '.join(expected.prefixes)}" if expected.prefixes else ""
    tried = "by a trial of a few steps; checkpoints come on top" if expected.tried else ""
    if measured and tried:
        tried = f"{format_count(expected.tried, 'run')} {tried}"
    source = "; ".join(filter(None, (measured, tried)))
    part = "" if expected.runs == runs else f" for {expected.runs} of {format_count(runs, 'run')}; the rest is unknown"
    return f"time: about {format_duration(expected.seconds)}{warm}, {source}{part}"


def _add_axes(header: list[str], rows: list[list[str]], suites: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Insert a column with the values of `[axes]` after the suite's name, if a suite has such values."""
    if not any(suite.axes for suite in suites):
        return header, rows
    cells = [[row[0], suite.axes.replace(";", " "), *row[1:]] for row, suite in zip(rows, suites, strict=True)]
    return [header[0], "axes", *header[1:]], cells


def estimate_line(estimate: "Estimate") -> str:
    """The totals of an estimate, and a line for every disk."""
    from ecrl.launch.campaign.warmup import WARMUP_S

    work = f"; {estimate.work.text}" if estimate.work.text else ""
    suites, runs = format_count(estimate.suites, "suite"), format_count(estimate.runs, "run")
    text = f"{suites}, {estimate.runs_todo} of {runs} to start{work}"
    if estimate.warmups:
        warmups = format_count(estimate.warmups, "warm-up")
        text += f"\nbefore them {warmups}, discarded: the start of the ranks and about {WARMUP_S} s of steps"
    if (disk := estimate.disk) is None:
        return text
    lines = [f"checkpoints: {format_bytes(disk.written)} written, {format_bytes(disk.kept)} kept at the end"]
    for place in estimate.places:
        fit = "" if place.fits else ": DOES NOT FIT"
        needed = "a fallback" if place.fallback else f"about {format_bytes(place.needed)} needed at the peak"
        lines.append(f"{place.folder}: {needed}, {format_bytes(place.free)} free{fit}")
    return "\n".join([text, *lines])


def print_summary(paths: CampaignPaths) -> None:
    """Print the last lines of `run` and `resume`."""
    view = _view(paths)
    print_message(f"{paths.prefix}: {format_counts(view.counts)}")
    if view.counts[FAILED]:
        print_message(f"Why: {_command('status', paths)}; again: {_command('resume', paths)} --retry-failed")
    print_message(f"Tables and report: {_command('report', paths)}")


def _view(paths: CampaignPaths) -> View:
    view = manifest.read(paths)
    _warn(view)
    return view


def _warn(view: View) -> None:
    for warning in view.warnings:
        print_message(f"warning: {warning}")


def _status_cells(row: Row) -> list[str]:
    wall = "" if row.wall_s is None else format_duration(row.wall_s)
    return [row.suite_id, row.status, f"{row.runs_done}/{row.runs_total}", wall]


def _command(name: str, paths: CampaignPaths) -> str:
    return f"ecrl {'' if name == 'report' else 'matrix '}{name} {paths.options}"


def show_table(title: str, header: list[str], rows: list[list[str]], status_column: int | None = None) -> None:
    """Print a table on stdout: drawn with rich on a terminal, else in plain columns."""
    if sys.stdout.isatty():
        from ecrl.cli.ui.tables import print_table

        print_table(title, header, rows, status_column)
    else:
        print(f"{title}\n{plain_table(header, rows)}")
