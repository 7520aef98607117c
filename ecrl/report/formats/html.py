"""Blocks -> one self-contained HTML file with style, script and plots. It loads nothing from elsewhere."""

import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ecrl.report.plots.style import DARK, GRID, INK
from ecrl.report.text.document import Block, Card, Figure

_SIZE = re.compile(r'width="([\d.]+)pt" height="[\d.]+pt"')
_LARGEST = 1.55  # scale of a plot: its words are then a little larger than the text
# Variables of the page for the colours of plots. Where they are not set, a plot has its own.
_DARK = "".join(f"--{light[1:].lower()}:{dark};" for light, dark in DARK.items())
_TEMPLATES = Path(__file__).parent / "templates"
_SPAN = re.compile(r"\*\*((?:`[^`]+`|[^*`])+)\*\*|`([^`]+)`|([^*`]+|.)", re.DOTALL)


def page(
    title: str,
    subtitle: str,
    cards: Sequence[Card],
    sections: Sequence[tuple[str, Sequence[Block]]],
    before_cards: int = 0,
) -> str:
    """The whole HTML document. before_cards: the number of sections that stand above the cards."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {"kind": _class_name, "spans": _SPAN.findall, "svg_body": _svg_body}
    return environment.get_template("page.html.jinja").render(
        title=title,
        subtitle=subtitle,
        cards=cards,
        sections=sections,
        before_cards=before_cards,
        css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8").replace("--plots:dark;", _DARK)),
        script=Markup((_TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def _class_name(block: Block) -> str:
    return type(block).__name__


def _svg_body(figure: Figure) -> Markup:
    """The SVG text of the plot from its first attribute on, as wide as the page allows, in the page's colours."""
    svg = figure.svg.decode().partition("<svg ")[2].replace(INK, "var(--fg)").replace(GRID, "var(--line)")
    svg = re.sub("|".join(DARK), lambda m: f"var(--{m[0][1:].lower()},{m[0]})", svg, flags=re.IGNORECASE)
    svg = _SIZE.sub(lambda m: f'style="max-width:{_LARGEST * float(m[1]):g}pt"', svg, count=1)
    # Shapes in a plot have generated ids. They are made unique, so that one plot cannot refer to another's shapes.
    name = re.sub(r"[^a-z0-9]+", "-", figure.path)
    return Markup(re.sub(r'(id="|url\(#|xlink:href="#)', lambda m: f"{m[1]}{name}-", svg))
