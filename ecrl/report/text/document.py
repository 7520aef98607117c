"""What a document is made of, before it is Markdown or HTML. Text may hold **bold** and `code`, nothing else."""

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
    """Cells are text already; columns whose name is in `left` are words, the others numbers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Figure:
    """A plot by its path relative to the document, e.g. plots/ledger.svg; pdf is empty unless it was asked for."""

    path: str
    caption: str
    svg: bytes = b""
    pdf: bytes = b""


Block: TypeAlias = Paragraph | Bullets | Code | Subheading | Table | Figure
Figures: TypeAlias = Mapping[str, Figure]


@dataclass(frozen=True)
class Section:
    """One member of the family `report section`. order: place in the report (design 3.5)."""

    order: int
    title: str
    blocks: Callable[[Evidence, Figures], list[Block]]
