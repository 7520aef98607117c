"""Loss curves: all variants of a suite in one panel, with the failures. What is bit-identical is drawn once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.report.plots.style import COLORS, VARIANT_COLORS, WIDTH_IN
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import join_names

MAX_PANELS = 12
MAX_CURVE_POINTS = 300
_TITLE_CHARACTERS = 42  # across a panel

Curve = tuple[float | None, ...]


@dataclass
class Panel:
    """One panel. curves: every different curve with its variants. marks: steps of failures. suites: which look so."""

    curves: dict[Curve, list[str]]
    marks: tuple[int, ...]
    suites: list[str] = field(default_factory=list)

    @property
    def shared(self) -> list[list[str]]:
        """The variants of every curve that is that of several."""
        return [names for names in self.curves.values() if len(names) > 1]


def list_panels(evidence: Evidence) -> list[Panel]:
    """The panels of the first seed; at most MAX_PANELS. Suites with the same curves and failures share one."""
    runs: dict[str, list[RunAnalysis]] = {}
    for run in evidence.runs:
        if any(loss is not None for loss in run.curve) and run.row["seed"] == evidence.seeds[0]:
            runs.setdefault(run.row["suite_id"], []).append(run)
    panels: dict[object, Panel] = {}
    for suite_id, own in runs.items():
        curves: dict[Curve, list[str]] = {}
        for run in own:
            curves.setdefault(tuple(run.curve), []).append(run.row["variant"])
        marks = tuple(sorted({cost.at for run in own for cost in run.failures if cost.at is not None}))
        look = (tuple((curve, tuple(names)) for curve, names in curves.items()), marks)
        panels.setdefault(look, Panel(curves, marks)).suites.append(suite_id)
    return list(panels.values())[:MAX_PANELS]


def describe_losses(evidence: Evidence) -> str:
    """The caption."""
    panels = list_panels(evidence)
    text = f"Loss (mean over ranks, last execution, at most {MAX_CURVE_POINTS} points a curve)"
    text += "; dotted: failures" if evidence.plans_failures else ""
    if panels and all(panel.shared and len(panel.curves) == 1 for panel in panels):
        text += ". The curves of all variants are bit-identical, so one is drawn for all"
    elif any(panel.shared for panel in panels):
        text += ". Bit-identical curves are drawn once, in the colour of the first variant; the title names them"
    if any(len(panel.suites) > 1 for panel in panels):
        text += ". Suites with bit-identical curves and the same failures share a panel"
    return text


def draw_losses(evidence: Evidence) -> Canvas | None:
    """One panel per suite with every variant's curve, for the first seed. None without losses."""
    shown, names = list_panels(evidence), suite_names(evidence.suites)
    if not shown:
        return None
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    drawn = {names[0] for panel in shown for names in panel.curves.values()}
    names_a_line = 4
    above = 0.55 + 0.18 * -(-len(drawn) // names_a_line)
    width, height = WIDTH_IN, 2.4 * lines + above
    canvas = Canvas(figsize=(width, height))
    grid = canvas.subplots(lines, columns, squeeze=False)
    # Placed by hand: matplotlib's layout of a dozen panels takes as long as drawing them.
    canvas.subplots_adjust(
        left=0.6 / width, right=1 - 0.15 / width, bottom=0.5 / height, top=1 - above / height, wspace=0.25, hspace=0.6
    )
    handles: dict[str, Line2D] = {}
    for place, axes in enumerate(grid.flat):
        if place >= len(shown):
            axes.set_visible(False)
            continue
        panel = shown[place]
        _draw_panel(axes, panel, evidence.variants)
        handles |= {str(line.get_label()): line for line in axes.lines if line.get_label() in drawn}
        axes.set_title(_title(panel, [names[suite_id] for suite_id in panel.suites]), fontsize=8)
    ordered = sorted(handles, key=evidence.variants.index)
    canvas.legend(handles=[handles[name] for name in ordered], loc="upper center", ncols=names_a_line, fontsize=8)
    return canvas


def _draw_panel(axes: Axes, panel: Panel, variants: Sequence[str]) -> None:
    for curve, (variant, *_) in panel.curves.items():
        index = variants.index(variant)
        points = _thin([(step, loss) for step, loss in enumerate(curve, start=1) if loss is not None])
        axes.plot(
            *zip(*points, strict=True),
            ("-", "--", ":", "-.")[index % 4],
            color=VARIANT_COLORS[index % len(VARIANT_COLORS)],
            linewidth=2.2 - 0.4 * (index % 4),
            label=variant,
        )
    for at in panel.marks:
        axes.axvline(at, color=COLORS["restart"], linewidth=1.0, linestyle=":")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")


def _title(panel: Panel, suites: Sequence[str]) -> str:
    """The suites, and below them the variants with the same curve."""
    first = "; ".join(suites)
    if len(first) > _TITLE_CHARACTERS and len(suites) > 1:
        first = f"{suites[0]} and {len(suites) - 1} more"
    alike = [f"{join_names(names)} identical" for names in panel.shared]
    if panel.shared and len(panel.curves) == 1:
        alike = [f"all {len(panel.shared[0])} variants identical"]
    return "\n".join(map(_cut, filter(None, (first, "; ".join(alike)))))


def _cut(line: str) -> str:
    return line if len(line) <= _TITLE_CHARACTERS else f"{line[: _TITLE_CHARACTERS - 1]}…"


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MAX_CURVE_POINTS evenly spaced points, and the last point."""
    # A panel cannot show more points.
    stride = -(-len(points) // MAX_CURVE_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]
