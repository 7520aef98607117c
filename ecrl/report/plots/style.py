"""The style of every plot (colours, fonts) and the conversion of a canvas to bytes. Equal plots give equal bytes.

A page may replace the colours INK and GRID to fit a dark background.
"""

import io
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

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
VARIANT_COLORS = ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "ecrl",
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3 fonts
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


def pdf(canvas: Canvas) -> bytes:
    """The canvas as PDF with embedded TrueType fonts, without date or program version."""
    out = io.BytesIO()
    canvas.savefig(out, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None})
    return out.getvalue()


def svg(canvas: Canvas) -> bytes:
    """The canvas as SVG, without date or program version: equal plots give equal bytes."""
    out = io.BytesIO()
    canvas.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()


def make_canvas(width: float, height: float) -> tuple[Canvas, Axes]:
    """A canvas (width and height in inches) and its axes. Matplotlib's layout keeps labels from being cut off."""
    canvas = Canvas(figsize=(width, height), layout="constrained")
    return canvas, canvas.subplots()
