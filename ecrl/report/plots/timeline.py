"""The timeline of a block: the states of the job, and below it those of every rank, over time."""

from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path

from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.analysis.run.timeline import NS_PER_S, STATES, Span, Timeline
from ecrl.report.plots.style import WIDTH_IN
from ecrl.report.text.names import format_part

# Smaller gaps, as a share of the axis, cannot be seen: spans of the same state become one bar. It is also the smallest
# width of a bar.
_PIXEL_SHARE = 1 / 400
_MAX_RANKS = 8
_ABOVE_IN, _BELOW_IN, _BESIDE_IN, _LETTER_IN = 0.6, 0.45, 0.8, 0.075
_ROW_IN, _JOB_HEIGHT, _RANK_HEIGHT = 0.17, 0.85, 0.5


def draw_timeline(runs: list[RunAnalysis], colors: Mapping[str, str], ink: str) -> Canvas:
    """Draw one band per run on a common axis of seconds since each run's spawn.

    A cross marks a failure. A thin line below a rank marks a persist in the background.
    """
    lines = [(run, run.timeline) for run in runs if run.timeline is not None]
    longest = max(line.t1 - line.t0 for _, line in lines)
    ranks = [min(int(run.row["nproc"]), _MAX_RANKS) for run, _ in lines]
    rows = sum(1 + count for count in ranks) + len(lines)
    height = _ABOVE_IN + _ROW_IN * rows + _BELOW_IN
    canvas = Canvas(figsize=(WIDTH_IN, height))
    axes = canvas.subplots()
    # Placed by hand: matplotlib's layout of a dozen timelines takes a second.
    beside = max(_BESIDE_IN, _LETTER_IN * max(len(str(run.row["variant"])) for run, _ in lines) + 0.2)
    canvas.subplots_adjust(
        left=beside / WIDTH_IN, right=1 - 0.1 / WIDTH_IN, bottom=_BELOW_IN / height, top=1 - _ABOVE_IN / height
    )
    y, ticks, used, struck = 0.0, {}, set(), False
    for (run, line), count in zip(lines, ranks, strict=True):
        ticks[y] = str(run.row["variant"])
        used |= _bars(axes, line.job, line.t0, y, _JOB_HEIGHT, longest, colors)
        failures = [(o.failed_t - line.t0) / NS_PER_S for o in line.outages if o.failed_t is not None]
        struck |= bool(failures)
        axes.plot(failures, [y] * len(failures), "x", color=ink, markersize=6, zorder=5)
        for rank in range(count):
            y += 1
            used |= _rank(axes, line, rank, y, longest, colors)
        y += 2
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim(y - 1, -1)
    axes.set_xlim(0, longest / NS_PER_S)
    axes.set_xlabel("seconds since the launch")
    axes.grid(axis="y", visible=False)
    handles: list[Patch | Line2D] = [Patch(color=colors[b], label=format_part(b)) for b in colors if b in used]
    if struck:
        handles.append(Line2D([], [], color=ink, marker="x", linestyle="", label="failure"))
    if any(line.persists for _, line in lines):
        handles.append(Line2D([], [], color=colors["drain"], linewidth=2, label="persist in flight"))
    canvas.legend(handles=handles, loc="upper center", ncols=5, fontsize=8)
    return canvas


def _rank(axes: Axes, line: Timeline, rank: int, y: float, longest: int, colors: Mapping[str, str]) -> set[str]:
    own = sorted((span for span in line.spans if span.rank == rank and span.t0 < span.t1), key=lambda span: span.t0)
    used = _bars(axes, own, line.t0, y, _RANK_HEIGHT, longest, colors)
    writes = _merge_spans([span for span in line.persists if span.rank == rank], longest * _PIXEL_SHARE)
    pixel = longest * _PIXEL_SHARE
    extents = [((s.t0 - line.t0) / NS_PER_S, max(s.t1 - s.t0, pixel) / NS_PER_S) for s in writes]
    if extents:
        _blocks(axes, extents, y + _RANK_HEIGHT / 2, 0.2, colors["drain"])
    return used


def _bars(
    axes: Axes, spans: Iterable[Span], t0: int, y: float, height: float, longest: int, colors: Mapping[str, str]
) -> set[str]:
    by_bucket: dict[str, list[tuple[float, float]]] = {}
    pixel = longest * _PIXEL_SHARE
    for span in _merge_spans(spans, pixel):
        # At least a pixel wide: else a stall of a few ms in minutes would show or not, depending on the pixel grid.
        width = max(span.t1 - span.t0, pixel)
        by_bucket.setdefault(STATES[span.state], []).append(((span.t0 - t0) / NS_PER_S, width / NS_PER_S))
    for bucket, extents in sorted(by_bucket.items(), key=lambda item: item[0] not in ("compute", "replay")):
        _blocks(axes, extents, y - height / 2, height, colors[bucket])
    return set(by_bucket)


def _blocks(axes: Axes, extents: list[tuple[float, float]], bottom: float, height: float, color: str) -> None:
    """Draw rectangles of one colour as a single path."""
    # One path needs a fifth of the bytes that one path per rectangle needs.
    corners = [
        [(x, bottom), (x + width, bottom), (x + width, bottom + height), (x, bottom + height), (x, bottom)]
        for x, width in extents
    ]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(corners)
    shapes = PathPatch(Path([point for box in corners for point in box], codes), facecolor=color, linewidth=0)
    # Added as an artist, not as a patch: the limits of the axes are set, and computing them from the shapes takes
    # seconds.
    shapes.set_transform(axes.transData)
    axes.add_artist(shapes)


def _merge_spans(spans: Iterable[Span], pixel: float) -> list[Span]:
    """Merge spans of the same state that are less than a pixel apart, even if other states lie between them."""
    open_: dict[str, Span] = {}
    found: list[Span] = []
    for span in spans:
        last = open_.get(span.state)
        if last is not None and span.t0 - last.t1 < pixel:
            open_[span.state] = last._replace(t1=max(last.t1, span.t1))
            continue
        if last is not None:
            found.append(last)
        open_[span.state] = span
    return sorted([*found, *open_.values()], key=lambda span: span.t0)
