"""Bars of the gain by cause, with intervals."""

from matplotlib.figure import Figure as Canvas

from ecrl.analysis.evidence import Evidence
from ecrl.report.plots.style import INK, WIDTH_IN, make_canvas
from ecrl.report.text.by_cause import list_causes
from ecrl.report.text.names import format_part
from ecrl.report.text.numbers import has_interval

_LESS, _MORE = "#009E73", "#D55E00"


def draw_causes(evidence: Evidence) -> Canvas | None:
    """One bar per part of the wall-clock difference, the largest at the top. None without ledgers of both variants."""
    parts = {part: c for part, c in list_causes(evidence).items() if c.overall is not None}
    if not parts:
        return None
    canvas, axes = make_canvas(WIDTH_IN, 1.1 + 0.28 * len(parts))
    for y, c in enumerate(parts.values()):
        assert c.overall is not None
        center = 100 * c.overall.center
        axes.barh([y], [center], color=_LESS if center < 0 else _MORE, height=0.62)
        if has_interval(c) and c.overall.low is not None and c.overall.high is not None:
            axes.plot([100 * c.overall.low, 100 * c.overall.high], [y, y], color=INK, linewidth=1.4)
    axes.axvline(0.0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(parts)), [format_part(part) for part in parts])
    axes.invert_yaxis()
    a, b = evidence.headline or ("", "")
    canvas.supxlabel(f"% of wall-clock, {a} - {b} (left of 0: {a} spends less)", fontsize=9, color=INK)
    axes.grid(axis="y", visible=False)
    return canvas
