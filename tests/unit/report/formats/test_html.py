"""Blocks as HTML: well-formed, and text is text whatever is in it."""

from html.parser import HTMLParser
from typing import get_args

import pytest

from ecrl.report.formats.html import page
from ecrl.report.text.document import Block, Bullets, Card, Code, Figure, Paragraph, Subheading, Table

HOSTILE = "<i>&\"' {{ title }} {% if"
SVG = b"""<?xml version="1.0"?>\n<svg width="1pt" id="a"><use xlink:href="#a"/><g clip-path="url(#a)"></g></svg>"""
BLOCKS = [
    Paragraph(HOSTILE),
    Bullets((HOSTILE, HOSTILE)),
    Code(HOSTILE),
    Subheading(HOSTILE),
    Table((HOSTILE, "number"), ((HOSTILE, HOSTILE),), frozenset({HOSTILE})),
    Figure("plots/a.svg", HOSTILE, SVG),
]
VOID = {"meta", "use"}


class Elements(HTMLParser):
    """The elements of a page with their attributes, and their texts; a tag that closes another's is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))


def body(*blocks: Block) -> Elements:
    """The one section of a page of these blocks."""
    text = page("t", "s", [], [("name", blocks)])
    return Elements(text[text.index("<h2>name</h2>") + len("<h2>name</h2>") : text.index("</section>")])


def test_every_kind_of_block_is_tried_here() -> None:
    assert {type(block) for block in BLOCKS} == set(get_args(Block))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: type(block).__name__)
def test_no_block_takes_text_for_markup(block: Block) -> None:
    found = body(block)
    assert "i" not in [tag for tag, _ in found.found]
    assert HOSTILE in [text for _, text in found.texts]


def test_titles_and_cards_are_text_too() -> None:
    found = Elements(page(HOSTILE, HOSTILE, [Card(HOSTILE, HOSTILE)], [(HOSTILE, [])]))
    assert "i" not in [tag for tag, _ in found.found]
    assert [tag for tag, text in found.texts if text == HOSTILE] == ["title", "h1", "p", "span", "span", "a", "h2"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a **b** and `c`", [("p", "a "), ("strong", "b"), ("p", " and "), ("code", "c")]),
        ("**a `b` c**", [("strong", "a "), ("code", "b"), ("strong", " c")]),
        ("`a ** b` ** c", [("code", "a ** b"), ("p", " ** c")]),
        ("`a **b", [("p", "`a **b")]),
    ],
)
def test_bold_and_code_are_elements_and_what_stands_alone_is_text(text: str, told: list[tuple[str, str]]) -> None:
    assert body(Paragraph(text)).texts == told


def test_cells_say_how_they_are_set() -> None:
    table = Table(("name", "n"), (("short", "1"), ("w" * 34, "2" * 34)), frozenset({"name"}))
    found = body(table).found
    assert [attrs.get("class") for tag, attrs in found if tag == "th"] == ["w", None]
    assert [attrs.get("class") for tag, attrs in found if tag == "td"] == ["w n", "n", "w", None]


def test_a_plot_has_a_name_and_shares_no_id_with_another() -> None:
    found = body(Figure("plots/a.svg", "one", SVG), Figure("plots/b.svg", "two", SVG)).found
    drawn = [attrs for tag, attrs in found if tag == "svg"]
    assert [attrs["aria-label"] for attrs in drawn] == ["one", "two"]
    assert [attrs["id"] for attrs in drawn] == ["plots-a-svg-a", "plots-b-svg-a"]
    assert [attrs["xlink:href"] for tag, attrs in found if tag == "use"] == ["#plots-a-svg-a", "#plots-b-svg-a"]
