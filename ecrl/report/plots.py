"""Plots as SVG: real text, colour-blind-safe colours (Okabe & Ito), the same bytes for the same evidence.

INK and GRID are the two colours that a page may replace to fit a dark background.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.metrics import RunAnalysis
from ecrl.analysis.restarts import PHASES, medians
from ecrl.analysis.tables import mean
from ecrl.records.schema import LEDGER_BUCKETS
from ecrl.report.blocks import Figure
from ecrl.report.names import suite_names
from ecrl.report.plot_timeline import draw_timeline

INK, GRID = "#1f2328", "#c9ced6"
COLORS = {
    "startup": "#999999",
    "compute": "#0072B2",
    "replay": "#56B4E9",
    "lost_step": "#8073ac",
    "snapshot_stall": "#F0E442",
    "persist_stall": "#E69F00",
    "detect": "#c1272d",
    "restart": "#D55E00",
    "restore": "#CC79A7",
    "drain": "#009E73",
    "shutdown": "#bfbfbf",
    "other": "#7f7f7f",
    "residual": "#e3d5ca",
}
PHASE_COLORS = dict(
    zip(PHASES, ("#c1272d", "#999999", "#D55E00", "#E69F00", "#F0E442", "#CC79A7", "#0072B2"), strict=True)
)
VARIANT_COLORS = ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
MAX_TIMELINES = 12
MAX_LOSS_PANELS = 12
MAX_CURVE_POINTS = 300
MAX_LEGEND_COLUMNS = 7
MAX_SUITES_IN_A_PLOT = 60
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ecrl",
    "pdf.fonttype": 42,  # journals refuse Type 3
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
}


def draw(evidence: Evidence, *, pdf: bool = False) -> dict[str, Figure]:
    """Every plot that the evidence has data for, by name; `path` is relative to the report. pdf: as PDF too."""
    makers: dict[str, tuple[Callable[[Evidence], Canvas | None], str]] = {
        "ratios": (_ratios, _ratios_caption(evidence)),
        "stall_gain": (_stall_gain, "Stall saved against wall-clock saved, per block, of the main comparison"),
        "ledger": (_ledger, "Where the time went: mean seconds per run by variant"),
        "restarts": (_restarts, "Where restarts spend their time, by variant and launcher"),
        "losses": (
            _losses,
            f"Loss (mean over ranks, last execution, at most {MAX_CURVE_POINTS} points a curve); dotted: failures",
        ),
    }
    figures: dict[str, Figure] = {}
    names = suite_names(evidence.suites)
    with matplotlib.rc_context(STYLE):
        for name, (make, caption) in makers.items():
            if (canvas := make(evidence)) is not None:
                figures[name] = _figure(name, caption, canvas, pdf)
        for suite_id, seed, runs in _timelines(evidence.runs):
            canvas = draw_timeline(runs, COLORS, INK)
            name = f"timeline-{suite_id}-seed{seed}"
            marks = "the job of every variant, thinner its ranks; marks are at least a pixel wide"
            caption = f"Timeline of {names[suite_id]}, seed {seed}: {marks}"
            figures[name] = _figure(name, caption, canvas, pdf)
    return figures


def _figure(name: str, caption: str, canvas: Canvas, pdf: bool) -> Figure:
    return Figure(f"plots/{name}.svg", caption, svg(canvas), _pdf(canvas) if pdf else b"")


def _pdf(canvas: Canvas) -> bytes:
    """The canvas as PDF with embedded TrueType fonts, without date or program version."""
    out = io.BytesIO()
    canvas.savefig(out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return out.getvalue()


def svg(canvas: Canvas) -> bytes:
    """The canvas as SVG without date or program version, so that the same plot is the same bytes."""
    out = io.BytesIO()
    canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def _canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots()


def _ratios_caption(evidence: Evidence) -> str:
    a, b = evidence.headline or ("", "")
    intervals = "with 95 % t intervals where a suite has two pairs or more; an arrow: the interval goes on"
    return f"Goodput ratio {a} / {b} per suite, {intervals}"


def _ratios(evidence: Evidence) -> Canvas | None:
    """Forest plot: one line a suite, the mean over suites at the bottom."""
    if evidence.headline is None:
        return None
    c = evidence.compare(*evidence.headline)
    if c.overall is None:
        return None
    ordered = sorted(c.suites.items(), key=lambda item: (item[1].center, item[0]))[-MAX_SUITES_IN_A_PLOT:]
    names = suite_names(evidence.suites)
    lines = [("mean", c.overall), *((names[suite_id], one) for suite_id, one in ordered)]
    canvas, axes = _canvas(7.2, 1.1 + 0.28 * len(lines))
    centers = [one.center for _, one in lines]
    spread = max(max(centers) - min([*centers, 1.0]), 0.01)
    bounds = [b for _, one in lines for b in (one.low, one.high) if b is not None and abs(b - 1) < 6 * spread]
    low, high = min([*centers, *bounds, 1.0]), max([*centers, *bounds, 1.0])
    margin = max(0.05 * (high - low), 0.002)
    low, high = low - margin, high + margin
    for y, (_, one) in enumerate(lines):
        color, marker = ("#D55E00", "D") if y == 0 else ("#0072B2", "o")
        if one.low is not None and one.high is not None:
            # an interval from two observations may be endless; the axis follows the points, an arrow says so
            axes.plot([max(one.low, low), min(one.high, high)], [y, y], color=color, linewidth=1.6)
            beyond = [
                (edge, sign) for edge, sign, out in ((low, "<", one.low < low), (high, ">", one.high > high)) if out
            ]
            for edge, sign in beyond:
                axes.plot([edge], [y], sign, color=color, markersize=5, clip_on=False)
        axes.plot([one.center], [y], marker, color=color, markersize=5)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle="--")
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    axes.set_ylim(-0.6, len(lines) - 0.4)
    canvas.supxlabel(f"goodput {c.a} / goodput {c.b} (right of 1: {c.a} is faster)", fontsize=9, color=INK)
    axes.grid(axis="y", visible=False)
    return canvas


def _stall_gain(evidence: Evidence) -> Canvas | None:
    if evidence.headline is None:
        return None
    a, b = evidence.headline
    stall = evidence.compare(a, b, "stall_s", "difference").pairs
    wall = {(p.suite_id, p.seed): -p.d for p in evidence.compare(a, b, "wall_s", "difference").pairs}
    points = [(-pair.d, wall[pair.suite_id, pair.seed]) for pair in stall if (pair.suite_id, pair.seed) in wall]
    if not points:
        return None
    canvas, axes = _canvas(5.2, 3.8)
    axes.scatter([x for x, _ in points], [y for _, y in points], color="#0072B2", s=26, zorder=3)
    axes.axhline(0.0, color=INK, linewidth=0.8)
    axes.axline((0.0, 0.0), slope=1.0, color=INK, linewidth=0.8, linestyle="--", label="all saved stall shows")
    for values, limit in (([x for x, _ in points], axes.set_xlim), ([y for _, y in points], axes.set_ylim)):
        low, high = min([*values, 0.0]), max([*values, 0.0])
        margin = 0.08 * (high - low) or 0.1
        limit(low - margin, high + margin)
    canvas.legend(loc="outside upper right", fontsize=8)
    axes.set_xlabel(f"stall saved, {b} - {a} (s)")
    axes.set_ylabel(f"wall-clock saved, {b} - {a} (s)")
    return canvas


def _ledger(evidence: Evidence) -> Canvas | None:
    known = [row for row in evidence.completed if row["compute_s"] is not None]
    groups = {str(arm): own for arm in evidence.arms if (own := [row for row in known if arm.holds(row)])}
    if not groups:
        return None
    parts = {
        bucket: [mean([row[f"{bucket}_s"] for row in own]) or 0.0 for own in groups.values()]
        for bucket in (*LEDGER_BUCKETS, "residual")
    }
    return _stacked(list(groups), parts, COLORS, "mean seconds per run")


def _restarts(evidence: Evidence) -> Canvas | None:
    """One bar a variant and launcher: the phases of its restarts, kill to first step."""
    found = medians(evidence.runs)
    if not found:
        return None
    launchers = {launcher for _, launcher in found}
    names = [f"{variant}, {launcher}" if len(launchers) > 1 else variant for variant, launcher in found]
    parts = {phase: [own.seconds[phase] or 0.0 for own in found.values()] for phase in PHASES}
    return _stacked(names, parts, PHASE_COLORS, "seconds from the kill to the first step (medians of the phases)")


def _stacked(
    names: Sequence[str], parts: Mapping[str, Sequence[float]], colors: Mapping[str, str], unit: str
) -> Canvas:
    """Horizontal bars made of parts; a part that is nowhere is in no legend."""
    canvas, axes = _canvas(7.2, 1.5 + 0.45 * len(names))
    left = [0.0] * len(names)
    drawn = [part for part, widths in parts.items() if any(widths)]
    for part in drawn:
        axes.barh(range(len(names)), parts[part], left=left, color=colors[part], height=0.62)
        left = [x + w for x, w in zip(left, parts[part], strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    handles = [Patch(color=colors[part], label=part.replace("_", " ")) for part in drawn]
    lines = -(-len(handles) // MAX_LEGEND_COLUMNS)
    canvas.legend(handles=handles, loc="outside upper center", ncols=-(-len(handles) // lines), fontsize=8)
    return canvas


def _losses(evidence: Evidence) -> Canvas | None:
    """One panel a suite, first seed: every variant's curve; identical curves cover each other."""
    panels: dict[str, list[RunAnalysis]] = {}
    for run in evidence.runs:
        if any(loss is not None for loss in run.curve) and run.row["seed"] == evidence.seeds[0]:
            panels.setdefault(run.row["suite_id"], []).append(run)
    shown, names = list(panels.items())[:MAX_LOSS_PANELS], suite_names(evidence.suites)
    if not shown:
        return None
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    names_a_line = 3 * columns
    above = 0.37 + 0.18 * -(-len(evidence.variants) // names_a_line)
    width, height = 3.6 * columns + 0.4, 2.2 * lines + above
    canvas = Canvas(figsize=(width, height))
    grid = canvas.subplots(lines, columns, squeeze=False)
    # placed by hand: letting matplotlib lay out a dozen panels takes as long as drawing them
    canvas.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - above / height, wspace=0.22, hspace=0.5
    )
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        suite_id, runs = shown[place]
        for run in runs:
            index = evidence.variants.index(run.row["variant"])
            points = _thinned([(step, loss) for step, loss in enumerate(run.curve, start=1) if loss is not None])
            style = ("-", "--", ":", "-.")[index % 4]
            color = VARIANT_COLORS[index % len(VARIANT_COLORS)]
            axes.plot(
                *zip(*points, strict=True),
                style,
                color=color,
                linewidth=2.2 - 0.4 * (index % 4),
                label=run.row["variant"],
            )
        for at in sorted({cost.at for run in runs for cost in run.failures if cost.at is not None}):
            axes.axvline(at, color=COLORS["restart"], linewidth=1.0, linestyle=":")
        axes.set_title(names[suite_id], fontsize=8)
        axes.set_xlabel("step")
        axes.set_ylabel("loss")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="upper center", ncols=min(names_a_line, len(labels)), fontsize=8)
    return canvas


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MAX_CURVE_POINTS evenly spaced points and the last one: what a panel can show."""
    stride = -(-len(points) // MAX_CURVE_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]


def _timelines(runs: Iterable[RunAnalysis]) -> list[tuple[str, int, list[RunAnalysis]]]:
    """The first seed of every suite that has timelines, up to MAX_TIMELINES."""
    found: dict[str, tuple[int, list[RunAnalysis]]] = {}
    for run in runs:
        if run.timeline is None:
            continue
        seed, own = found.setdefault(run.row["suite_id"], (run.row["seed"], []))
        if seed == run.row["seed"]:
            own.append(run)
    return [(suite, seed, own) for suite, (seed, own) in found.items()][:MAX_TIMELINES]
