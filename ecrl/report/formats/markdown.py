"""Blocks -> Markdown with aligned tables, readable as plain text."""

from collections.abc import Iterable

from ecrl.report.text.document import Block, Bullets, Code, Figure, Paragraph, Subheading, Table


def markdown(blocks: Iterable[Block]) -> str:
    """The Markdown text of the blocks, separated by blank lines."""
    return "\n\n".join(_block(block) for block in blocks)


def _block(block: Block) -> str:
    match block:
        case Paragraph(text):
            return text
        case Bullets(items):
            return "\n".join(f"- {item}" for item in items)
        case Code(text):
            return f"```sh\n{text}\n```"
        case Subheading(text):
            return f"### {text}"
        case Figure(path, caption):
            return f"![{caption}]({path})"
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    rows = [tuple(_escape(cell) for cell in row) for row in (table.headers, *table.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(table.headers))]
    words = [header in table.left for header in table.headers]
    ruler = ["-" * width if word else "-" * (width - 1) + ":" for width, word in zip(widths, words, strict=True)]
    padded = [
        [cell.ljust(width) if word else cell.rjust(width) for cell, width, word in zip(row, widths, words, strict=True)]
        for row in rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [padded[0], ruler, *padded[1:]])


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
