"""The style of every plot (colours, fonts) and the conversion of a canvas to bytes. Equal plots give equal bytes.

A page replaces INK, GRID and the colours of DARK on a dark ground.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

INK, GRID = "#1f2328", "#c9ced6"
COLORS = {
    "startup": "#adadad",
    "compute": "#0072B2",
    "replay": "#56B4E9",
    "lost_step": "#8073ac",
    "snapshot_stall": "#F0E442",
    "persist_stall": "#E69F00",
    "detect": "#3a2a4d",
    "restart": "#D55E00",
    "restore": "#CC79A7",
    "drain": "#009E73",
    "shutdown": "#666666",
    "other": "#8c5a1e",
    "residual": "#ecd3bd",
}
VARIANT_COLORS = ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
# What a colour that is too dark for a dark ground becomes there.
DARK = {
    "#0072B2": "#3d8fdc", "#56B4E9": "#b5e1ff", "#8073ac": "#a99bdb", "#3a2a4d": "#f4eefc", "#666666": "#7c7c7c",
    "#8c5a1e": "#b98545",
}  # fmt: skip
WIDTH_IN = 6.4  # of a plot across the page: a phone scales it to 60 %, a wide screen to 155 %
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


@contextmanager
def use_style(style: Any) -> Iterator[None]:
    """Draw in this style while the block runs, whatever a matplotlibrc of the user or the current folder says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


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
