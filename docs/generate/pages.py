"""The generated pages, and what their writers share."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1]
_CODE = re.compile(r"(`[^`]*`)")
NOTICE = "<!-- Written by `python -m docs.generate`; edit what it reads instead. -->"


def format_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    cells = [[escape_html(" ".join(cell.split())).replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def escape_html(text: str) -> str:
    """The text with no bracket outside code that could begin a tag."""
    parts = _CODE.split(text)  # every second one is code
    return "".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def join_blocks(blocks: Iterable[str]) -> str:
    """A page: its blocks with an empty line between two of them."""
    return "\n\n".join(block.strip("\n") for block in blocks if block) + "\n"


def _render_matrix() -> str:
    from docs.generate.matrix import render_page

    return render_page()


def _render_commands() -> str:
    from docs.generate.commands import render_page

    return render_page()


PAGES: dict[str, Callable[[], str]] = {"matrix.md": _render_matrix, "commands.md": _render_commands}
