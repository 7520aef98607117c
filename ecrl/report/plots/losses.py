"""Loss curves: all variants of a suite in one panel, with the failures."""

from matplotlib.figure import Figure as Canvas

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.report.plots.style import COLORS, VARIANT_COLORS
from ecrl.report.text.names import suite_names

MAX_PANELS = 12
MAX_CURVE_POINTS = 300


def draw_losses(evidence: Evidence) -> Canvas | None:
    """One panel per suite with every variant's curve, for the first seed. None without losses.

    Identical curves cover each other.
    """
    panels: dict[str, list[RunAnalysis]] = {}
    for run in evidence.runs:
        if any(loss is not None for loss in run.curve) and run.row["seed"] == evidence.seeds[0]:
            panels.setdefault(run.row["suite_id"], []).append(run)
    shown, names = list(panels.items())[:MAX_PANELS], suite_names(evidence.suites)
    if not shown:
        return None
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    names_a_line = 3 * columns
    above = 0.37 + 0.18 * -(-len(evidence.variants) // names_a_line)
    width, height = 3.6 * columns + 0.4, 2.2 * lines + above
    canvas = Canvas(figsize=(width, height))
    grid = canvas.subplots(lines, columns, squeeze=False)
    # Placed by hand: matplotlib's layout of a dozen panels takes as long as drawing them.
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
            points = _thin([(step, loss) for step, loss in enumerate(run.curve, start=1) if loss is not None])
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


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most MAX_CURVE_POINTS evenly spaced points, and the last point."""
    # A panel cannot show more points.
    stride = -(-len(points) // MAX_CURVE_POINTS)
    return points if stride <= 1 else [*points[:-1:stride], points[-1]]
