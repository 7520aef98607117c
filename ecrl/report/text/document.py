"""The blocks of a document, independent of its format. Text may contain **bold** and `code`, no other markup."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from ecrl.analysis.evidence import Evidence


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Code:
    """Commands to type, one a line."""

    text: str


@dataclass(frozen=True)
class Subheading:
    """A title inside a section."""

    text: str


@dataclass(frozen=True)
class Table:
    """A table of texts. left: the headers of columns with words; the other columns hold numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[str] = field(default_factory=frozenset)

    @property
    def is_words(self) -> bool:
        """Whether no column holds numbers."""
        return self.left.issuperset(self.headers)


@dataclass(frozen=True)
class Figure:
    """A plot. path: relative to the document, e.g. plots/ledger.svg. pdf: empty unless requested."""

    path: str
    caption: str
    svg: bytes = b""
    pdf: bytes = b""


@dataclass(frozen=True)
class Card:
    """A number with its meaning, at the top of a page."""

    value: str
    label: str


Block: TypeAlias = Paragraph | Bullets | Code | Subheading | Table | Figure
Figures: TypeAlias = Mapping[str, Figure]


@dataclass(frozen=True)
class Section:
    """A section of a report, e.g. a member of the family `report section`. order: sections of the family are sorted.

    On a page, those of order 0 stand above the cards.
    """

    order: int
    title: str
    blocks: Callable[[Evidence, Figures], list[Block]]
