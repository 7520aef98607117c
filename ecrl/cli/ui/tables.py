"""Tables on a terminal, drawn with rich, and the colours of states."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {
    "completed": "green", "skipped_exists": "green", "failed": "red", "running": "cyan", "interrupted": "yellow",
}  # fmt: skip


def fit_table(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The table, on its side if it is wider than the terminal: its columns as rows."""
    lines = [header, *rows]
    width = sum(max(map(len, column)) + 3 for column in zip(*lines, strict=True)) + 1
    if width <= Console().width:
        return header, rows
    turned = [list(column) for column in zip(*lines, strict=True)]
    return turned[0], turned[1:]


def print_table(title: str, header: list[str], rows: list[list[str]], status_column: int | None = None) -> None:
    """Print a table on stdout. The statuses in the column with the index `status_column` are coloured."""
    table = Table(title=title, title_justify="left", expand=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        style = "" if status_column is None else STYLES.get(row[status_column].split()[0], "")
        table.add_row(*(Text(cell, style=style if i == status_column else "") for i, cell in enumerate(row)))
    Console().print(table)
