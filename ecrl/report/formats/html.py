"""Blocks -> one self-contained HTML file: style, script and plots inside, nothing fetched from anywhere."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ecrl.report.plots.style import GRID, INK
from ecrl.report.text.document import Block, Bullets, Code, Figure, Paragraph, Subheading, Table

_TEMPLATES = Path(__file__).parent / "templates"
_WIDE_CELL = 34  # characters from which a cell of words may wrap


@dataclass(frozen=True)
class Card:
    """A number at the top of the page."""

    value: str
    label: str


@dataclass(frozen=True)
class _Part:
    title: str
    body: Markup


def page(title: str, subtitle: str, cards: Sequence[Card], sections: Sequence[tuple[str, Sequence[Block]]]) -> str:
    """The whole document."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False, keep_trailing_newline=True)
    template = environment.from_string((_TEMPLATES / "page.html.jinja").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        subtitle=subtitle,
        cards=cards,
        sections=[_Part(name, Markup("\n".join(_block(block) for block in blocks))) for name, blocks in sections],
        css=Markup((_TEMPLATES / "page.css").read_text(encoding="utf-8")),
        script=Markup((_TEMPLATES / "page.js").read_text(encoding="utf-8")),
    )


def _inline(text: str) -> str:
    escaped = html.escape(text)
    escaped = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", escaped)


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return f"<p>{_inline(text)}</p>"
        case Bullets(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Code(text):
            return f"<pre><code>{html.escape(text)}</code></pre>"
        case Subheading(text):
            return f"<h3>{_inline(text)}</h3>"
        case Figure():
            return _figure(block)
        case Table():
            return _table(block)


def _figure(figure: Figure) -> str:
    """The plot inline, its ink taking the page's colours."""
    svg = figure.svg.decode()
    svg = svg[svg.index("<svg") :].replace(INK, "var(--fg)").replace(GRID, "var(--line)")
    caption = _inline(figure.caption)
    label = html.escape(figure.caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    # plots draw their shapes under generated names; made unique, so that one plot cannot use another's
    name = re.sub(r"[^a-z0-9]+", "-", figure.path)
    svg = re.sub(r'(id="|url\(#|xlink:href="#)', lambda m: f"{m[1]}{name}-", svg)
    return f'<figure><div class="figure-scroll">{svg}</div><figcaption>{caption}</figcaption></figure>'


def _table(table: Table) -> str:
    words = [header in table.left for header in table.headers]
    head = "".join(
        f'<th scope="col"{" class=w" if word else ""}><button type="button">{_inline(header)}</button></th>'
        for header, word in zip(table.headers, words, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(_cell(cell, word) for cell, word in zip(row, words, strict=True)) + "</tr>"
        for row in table.rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, word: bool) -> str:
    classes = " ".join(name for name, on in (("w", word), ("n", len(text) < _WIDE_CELL)) if on)
    return f'<td class="{classes}">{_inline(text)}</td>' if classes else f"<td>{_inline(text)}</td>"
