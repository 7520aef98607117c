"""What fills the rest of the screen of a campaign: the results so far, the last finished runs, the queue."""

import math
import statistics
from collections.abc import Iterator, Sequence

from ecrl.config.recipe import REFERENCE
from ecrl.launch.views.finished import FinishedRun
from ecrl.launch.views.snapshot import Snapshot
from ecrl.records.manifest.store import COMPLETED, INTERRUPTED, PENDING
from ecrl.units import format_count, format_duration

_LEAST = 3  # lines of a part: an empty one, its title and a line below it
Part = list[tuple[str, str]]  # lines with their styles


def fill_rest(shown: Snapshot, room: int) -> Part:
    """Lines of the parts in which there is something to say, in at most `room`."""
    results = _cut(_tell_results(shown), room)
    finished, queue, left = _tell_finished(shown), _tell_queue(shown), room - len(results)
    finished = _cut(finished, max(left // 2, left - len(queue)))
    return [*results, *finished, *_cut(queue, left - len(finished))]


def _cut(part: Part, room: int) -> Part:
    return part[:room] if room >= _LEAST else []


def _tell_results(shown: Snapshot) -> Part:
    """A line for each variant of the runs that completed."""
    by_variant: dict[str, list[FinishedRun]] = {}
    for run in shown.finished:
        if run.outcome == COMPLETED:
            by_variant.setdefault(run.variant, []).append(run)
    ratio_of = by_variant.get(REFERENCE, [])
    rows = [_summarize(name, by_variant[name], ratio_of) for name in sorted(by_variant)]
    title = f"so far, in the last {format_count(sum(map(len, by_variant.values())), 'completed run')}"
    title += "; goodput: of the reference's" if REFERENCE in by_variant else ""
    return [("", ""), (title, "bold"), *((line, "") for line in _align(rows))] if rows else []


def _summarize(variant: str, runs: list[FinishedRun], references: list[FinishedRun]) -> tuple[str, ...]:
    wall_s = {(run.suite_id, run.seed): run.wall_s for run in references}
    ratios = [wall_s[block] / run.wall_s for run in runs if (block := (run.suite_id, run.seed)) in wall_s]
    return (
        variant,
        format_count(len(runs), "run"),
        f"goodput {math.exp(statistics.fmean(map(math.log, ratios))):.3g}" if ratios else "",
        f"wall {format_duration(statistics.fmean(run.wall_s for run in runs))}",
        _format_stall([run.stall_s for run in runs if run.stall_s is not None]),
    )


def _format_stall(stalls_s: Sequence[float]) -> str:
    """The mean, or '' of runs without checkpoints."""
    return f"stall {statistics.fmean(stalls_s):.3g} s" if stalls_s else ""


def _tell_finished(shown: Snapshot) -> Part:
    rows = [
        (
            f"{run.variant} seed{run.seed}",
            "" if run.outcome == COMPLETED else run.outcome,
            format_duration(run.wall_s),
            _format_stall([] if run.stall_s is None else [run.stall_s]),
            run.suite_id,
        )
        for run in shown.finished
    ]
    styles = ["" if run.outcome == COMPLETED else "red" for run in shown.finished]
    lines = zip(_align(rows), styles, strict=True)
    return [("", ""), ("last finished", "bold"), *lines] if rows else []


def _tell_queue(shown: Snapshot) -> Part:
    if not shown.queue:
        return []
    waiting = shown.counts.get(PENDING, 0) + shown.counts.get(INTERRUPTED, 0)
    title = f"next of {format_count(waiting, 'suite')} in the queue"
    return [("", ""), (title, "bold"), *((f"  {suite_id}", "cyan") for suite_id in shown.queue)]


def _align(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        yield f"  {'  '.join(cells).rstrip()}"
