"""Stacked bars of the time of runs and of restarts."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch

from ecrl.analysis.campaign.tables import mean
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.restarts import PHASES
from ecrl.records.columns import LEDGER_BUCKETS
from ecrl.report.plots.style import COLORS, WIDTH_IN, make_canvas
from ecrl.report.text.names import format_part

MAX_LEGEND_COLUMNS = 5
PHASE_COLORS = dict(
    zip(
        PHASES,
        (COLORS["detect"], "#999999", "#D55E00", "#E69F00", "#F0E442", COLORS["restore"], "#0072B2"),
        strict=True,
    )
)
# In short runs they take nearly all of the time.
AROUND_STEPS = frozenset({"startup", "detect", "restart", "shutdown"})


def draw_ledger(evidence: Evidence) -> Canvas | None:
    """One bar per arm: the mean ledger of its runs in whole blocks. None without a ledger."""
    return _draw_buckets(evidence, (*LEDGER_BUCKETS, "residual"))


def draw_steps(evidence: Evidence) -> Canvas | None:
    """The part of the ledger in which ranks train, save and restore. None without a ledger."""
    return _draw_buckets(evidence, [bucket for bucket in LEDGER_BUCKETS if bucket not in AROUND_STEPS])


def _draw_buckets(evidence: Evidence, buckets: Collection[str]) -> Canvas | None:
    known = [row for row in evidence.whole if row["compute_s"] is not None]
    groups = {str(arm): own for arm in evidence.arms if (own := [row for row in known if arm.holds(row)])}
    if not groups:
        return None
    parts = {
        bucket: [mean([row[f"{bucket}_s"] for row in own]) or 0.0 for own in groups.values()] for bucket in buckets
    }
    return _draw_stacked(list(groups), parts, COLORS, "mean seconds per run")


def draw_restarts(evidence: Evidence) -> Canvas | None:
    """One bar per arm: the phases of its restarts, from the kill to the first step. None without restarts."""
    found = evidence.restarts
    if not found:
        return None
    parts = {phase: [own.seconds[phase] or 0.0 for own in found.values()] for phase in PHASES}
    return _draw_stacked(
        list(map(str, found)), parts, PHASE_COLORS, "seconds from the kill to the first step (medians of the phases)"
    )


def _draw_stacked(
    names: Sequence[str], parts: Mapping[str, Sequence[float]], colors: Mapping[str, str], unit: str
) -> Canvas:
    """Draw horizontal bars made of parts. The legend omits parts that are 0 in every bar."""
    drawn = [part for part, widths in parts.items() if any(widths)]
    lines = -(-len(drawn) // MAX_LEGEND_COLUMNS)
    canvas, axes = make_canvas(WIDTH_IN, 0.9 + 0.3 * lines + 0.45 * len(names))
    left = [0.0] * len(names)
    for part in drawn:
        axes.barh(range(len(names)), parts[part], left=left, color=colors[part], height=0.62)
        left = [x + w for x, w in zip(left, parts[part], strict=True)]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.grid(axis="y", visible=False)
    handles = [Patch(color=colors[part], label=format_part(part)) for part in drawn]
    if handles:
        canvas.legend(handles=handles, loc="outside upper center", ncols=-(-len(handles) // lines), fontsize=8)
    return canvas
