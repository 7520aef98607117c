"""The plots of a report as SVG, with real text and colour-blind-safe colours (Okabe & Ito).

Equal evidence gives equal bytes.
"""

from collections.abc import Callable, Iterable

from matplotlib.figure import Figure as Canvas

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.report.plots.bars import draw_ledger, draw_restarts, draw_steps
from ecrl.report.plots.causes import draw_causes
from ecrl.report.plots.losses import describe_losses, draw_losses
from ecrl.report.plots.multiverse import draw_multiverse
from ecrl.report.plots.style import COLORS, INK, STYLE, WIDTH_IN, make_canvas, svg, use_style
from ecrl.report.plots.style import pdf as as_pdf
from ecrl.report.plots.timeline import draw_timeline
from ecrl.report.text.by_cause import describe_causes
from ecrl.report.text.document import Figure
from ecrl.report.text.names import suite_names

MAX_TIMELINES = 12
MAX_MULTIVERSES = 4
MAX_SUITES_IN_A_PLOT = 60


def draw(evidence: Evidence, *, pdf: bool = False) -> dict[str, Figure]:
    """Every plot for which the evidence has data, by name. `path` is relative to the report. pdf: add PDF versions."""
    around = "start-up, detect, restart and shutdown" if evidence.plans_failures else "start-up and shutdown"
    makers: dict[str, tuple[Callable[[Evidence], Canvas | None], str]] = {
        "causes": (draw_causes, describe_causes(evidence)),
        "ratios": (_ratios, _ratios_caption(evidence)),
        "stall_gain": (_stall_gain, "Stall saved against wall-clock saved, per block, of the main comparison"),
        "ledger": (draw_ledger, "Where the time went: mean seconds per run by variant"),
        "ledger_steps": (draw_steps, f"The same without {around}: what ranks do in between"),
        "restarts": (draw_restarts, "Where restarts spend their time, by variant"),
        "losses": (draw_losses, describe_losses(evidence)),
    }
    figures: dict[str, Figure] = {}
    names = suite_names(evidence.suites)
    with use_style(STYLE):
        for name, (make, caption) in makers.items():
            if (canvas := make(evidence)) is not None:
                figures[name] = _figure(name, caption, canvas, pdf)
        for place, one in enumerate(evidence.multiverses[:MAX_MULTIVERSES], start=1):
            if (canvas := draw_multiverse(one, evidence)) is not None:
                caption = f"Multiverse of '{one.claim.name}': {len(one.analyses)} analyses, 95 % intervals"
                figures[f"multiverse-{place}"] = _figure(f"multiverse-{place}", caption, canvas, pdf)
        for suite_id, seed, runs in _timelines(evidence.runs):
            canvas = draw_timeline(runs, COLORS, INK)
            name = f"timeline-{suite_id}-seed{seed}"
            marks = "the job of every variant, thinner its ranks; marks are at least a pixel wide"
            caption = f"Timeline of {names[suite_id]}, seed {seed}: {marks}"
            figures[name] = _figure(name, caption, canvas, pdf)
    return figures


def _figure(name: str, caption: str, canvas: Canvas, pdf: bool) -> Figure:
    return Figure(f"plots/{name}.svg", caption, svg(canvas), as_pdf(canvas) if pdf else b"")


def _ratios_caption(evidence: Evidence) -> str:
    a, b = evidence.headline or ("", "")
    intervals = "with 95 % t intervals where a suite has two pairs or more; an arrow: the interval goes on"
    return f"Goodput ratio {a} / {b} per suite, {intervals}"


def _ratios(evidence: Evidence) -> Canvas | None:
    """A forest plot: one line per suite, the mean over suites at the bottom. None without a main comparison."""
    if evidence.headline is None:
        return None
    c = evidence.compare(*evidence.headline)
    if c.overall is None:
        return None
    ordered = sorted(c.suites.items(), key=lambda item: (item[1].center, item[0]))[-MAX_SUITES_IN_A_PLOT:]
    names = suite_names(evidence.suites)
    lines = [("mean", c.overall), *((names[suite_id], one) for suite_id, one in ordered)]
    canvas, axes = make_canvas(WIDTH_IN, 1.1 + 0.28 * len(lines))
    centers = [one.center for _, one in lines]
    spread = max(max(centers) - min([*centers, 1.0]), 0.01)
    bounds = [b for _, one in lines for b in (one.low, one.high) if b is not None and abs(b - 1) < 6 * spread]
    low, high = min([*centers, *bounds, 1.0]), max([*centers, *bounds, 1.0])
    margin = max(0.05 * (high - low), 0.002)
    low, high = low - margin, high + margin
    for y, (_, one) in enumerate(lines):
        color, marker = ("#D55E00", "D") if y == 0 else ("#0072B2", "o")
        if one.low is not None and one.high is not None:
            # An interval from two observations may be very wide: the axis follows the points, and an arrow marks the
            # end of an interval that lies outside.
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
    canvas, axes = make_canvas(WIDTH_IN, 3.6)
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


def _timelines(runs: Iterable[RunAnalysis]) -> list[tuple[str, int, list[RunAnalysis]]]:
    """(suite id, seed, runs) for the first seed of every suite that has timelines; at most MAX_TIMELINES suites."""
    found: dict[str, tuple[int, list[RunAnalysis]]] = {}
    for run in runs:
        if run.timeline is None:
            continue
        seed, own = found.setdefault(run.row["suite_id"], (run.row["seed"], []))
        if seed == run.row["seed"]:
            own.append(run)
    return [(suite, seed, own) for suite, (seed, own) in found.items()][:MAX_TIMELINES]
