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
HEAD = "<summary><h2>name</h2></summary>"


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
    return Elements(text[text.index(HEAD) + len(HEAD) : text.index("</details></section>")])


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
    told = [tag for tag, text in found.texts if text == HOSTILE]
    assert told == ["title", "a", "a", "h1", "p", "span", "span", "h2"]


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


def test_only_a_table_without_numbers_can_be_stacked_and_its_cells_then_name_their_column() -> None:
    words, numbers = (Table(("a", "b"), (("x", "y"),), frozenset(left)) for left in ("ab", "a"))
    for table, told in ((words, ["a", "b"]), (numbers, [None, None])):
        found = body(table).found
        assert [attrs.get("data-header") for tag, attrs in found if tag == "td"] == told
        assert [attrs.get("class") for tag, attrs in found if tag == "table"] == ["words" if told[0] else None]


def test_a_plot_is_as_wide_as_the_page_and_has_colours_for_a_dark_ground() -> None:
    svg = b'<svg width="100.8pt" height="50pt" viewBox="0 0 100.8 50"><path style="fill: #0072b2"/></svg>'
    found = body(Figure("plots/a.svg", "one", svg)).found
    ((_, attributes),) = [one for one in found if one[0] == "svg"]
    assert not {"width", "height"} & set(attributes)
    assert attributes["style"] == "max-width:156.24pt"
    assert ("path", {"style": "fill: var(--0072b2,#0072b2)"}) in found
    assert "--0072b2:#3d8fdc;" in page("t", "s", [], [])


def test_a_plot_has_a_name_and_shares_no_id_with_another() -> None:
    found = body(Figure("plots/a.svg", "one", SVG), Figure("plots/b.svg", "two", SVG)).found
    drawn = [attrs for tag, attrs in found if tag == "svg"]
    assert [attrs["aria-label"] for attrs in drawn] == ["one", "two"]
    assert [attrs["id"] for attrs in drawn] == ["plots-a-svg-a", "plots-b-svg-a"]
    assert [attrs["xlink:href"] for tag, attrs in found if tag == "use"] == ["#plots-a-svg-a", "#plots-b-svg-a"]
