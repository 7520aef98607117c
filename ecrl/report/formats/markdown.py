"""Blocks -> Markdown with aligned tables, readable as plain text."""

import re
from collections.abc import Iterable

from ecrl.report.text.document import Block, Bullets, Code, Figure, Paragraph, Subheading, Table

_CODE = re.compile(r"((?<![`\\])(?:`[^`]+`)(?!`))")  # a code span: HTML in it is text
_MARKUP = re.compile(r"<(?=[A-Za-z/!?])|\](?=\()")


def markdown(blocks: Iterable[Block]) -> str:
    """The Markdown text of the blocks, separated by blank lines."""
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return _escape(text)
        case Bullets(items):
            return "\n".join(f"- {_escape(item)}" for item in items)
        case Code(text):
            return f"```sh\n{text}\n```"
        case Subheading(text):
            return f"### {_escape(text)}"
        case Figure(path, caption):
            return f"![{_escape(caption)}]({path})"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    rows = [tuple(_escape_cell(cell) for cell in row) for row in (table.headers, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(table.headers))]
    words = [header in table.left for header in table.headers]
    ruler = ["-" * width if word else "-" * (width - 1) + ":" for width, word in zip(widths, words, strict=True)]
    padded = [
        [cell.ljust(width) if word else cell.rjust(width) for cell, width, word in zip(row, widths, words, strict=True)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [padded[0], ruler, *padded[1:]])


def _escape_cell(cell: str) -> str:
    return _escape(cell).replace("|", "\\|").replace("\n", " ")


def _escape(text: str) -> str:
    """The text without HTML or links: names of data sets, models and failures are other people's."""
    return "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\g<0>", part) for part in _CODE.split(text))
