"""The specification curve: every analysis of a claim, sorted by its estimate, above the choices that it makes."""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.multiverse import Analysis, Multiverse
from ecrl.report.plots.style import INK
from ecrl.report.text.multiverse import name_option, name_verdict
from ecrl.report.text.names import format_part

# Verdicts differ in colour and in shape. They are drawn in this order: the rarest on top.
_MARKS = {"INCONCLUSIVE": ("#7f7f7f", "o"), "CONFIRMED": ("#0072B2", "^"), "REFUTED": ("#D55E00", "v")}
_LINE_INCHES = 0.19  # a row of the matrix


def draw_multiverse(m: Multiverse, evidence: Evidence) -> Canvas | None:
    """Estimates with intervals above a matrix of choices. None where there is no other analysis."""
    if len(m.analyses) < 2:
        return None
    ordered = sorted(m.analyses, key=lambda one: one.estimate)
    rows = [(name, option) for name, options in m.dimensions.items() for option in options]
    heights = [2.4, _LINE_INCHES * len(rows)]
    canvas = Canvas(figsize=(7.2, sum(heights) + 0.9), layout="constrained")
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=heights)
    _draw_curve(above, m, ordered)
    _draw_choices(below, ordered, rows, [name_option(*row, evidence) for row in rows])
    handles, labels = above.get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8)
    return canvas


def _draw_curve(axes: Axes, m: Multiverse, ordered: list[Analysis]) -> None:
    for verdict, (color, marker) in _MARKS.items():
        own = [(x, one) for x, one in enumerate(ordered) if one.verdict == verdict]
        if not own:
            continue
        for x, one in own:
            if one.low is not None and one.high is not None:
                axes.plot([x, x], [one.low, one.high], color=color, linewidth=1.0, alpha=0.55)
        label = f"{name_verdict(m, verdict)} ({len(own)})"
        axes.plot([x for x, _ in own], [one.estimate for _, one in own], marker, color=color, markersize=4, label=label)
    place = ordered.index(m.registered)
    axes.plot(
        [place], [m.registered.estimate], "D", markerfacecolor="none", color=INK, markersize=8, label="the report's"
    )
    for bound in m.bounds:
        axes.axhline(bound, color=INK, linewidth=0.8, linestyle="--")
    axes.set_ylabel(f"{m.claim.expect.partition(' ')[0]} of {format_part(m.claim.metric)}")
    axes.grid(axis="x", visible=False)
    axes.tick_params(bottom=False)


def _draw_choices(axes: Axes, ordered: list[Analysis], rows: list[tuple[str, str]], names: list[str]) -> None:
    for verdict, (color, _) in _MARKS.items():
        points = [
            (x, y)
            for x, one in enumerate(ordered)
            if one.verdict == verdict
            for y, (name, option) in enumerate(rows)
            if one.choices[name] == option
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "|", color=color, markersize=7, markeredgewidth=1.4)
    last = [y for y, (row, after) in enumerate(itertools.pairwise(rows)) if row[0] != after[0]]
    for y in last:
        axes.axhline(y + 0.5, color=INK, linewidth=0.4)
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xticks([])
    axes.set_xlabel("analyses, sorted by estimate")
    axes.grid(visible=False)
