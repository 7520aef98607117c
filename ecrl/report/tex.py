"""Blocks -> one LaTeX file of booktabs tables and PDF figures to \\input into a paper (packages booktabs, graphicx)."""

import re
from collections.abc import Sequence

from ecrl.report.blocks import Block, Figure, Subheading, Table

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "∞": r"$\infty$", "<": r"$<$", ">": r"$>$",
    "[": "{[}",  # after a line end it would begin an option

}  # fmt: skip
_WIDE_COLUMNS = 7  # from here on a table spans both columns of a paper and is set small


def escaped(text: str) -> str:
    """Text as LaTeX prints it; **bold** and `code` become \\textbf and \\texttt."""
    plain = "".join(_ESCAPES.get(character, character) for character in text)
    plain = re.sub(r"`([^`]+)`", r"\\texttt{\1}", plain)
    return re.sub(r"\*\*([^*]+)\*\*", r"\\textbf{\1}", plain)


def document(title: str, generated: str, parts: Sequence[tuple[str, Sequence[Block]]]) -> str:
    """Every table and figure of the sections, in order; prose stays in the Markdown draft."""
    lines = [f"% {title}. {generated}", r"% \usepackage{booktabs,graphicx}, then \input this file."]
    taken: dict[str, int] = {}
    for section, blocks in parts:
        heading = section
        for block in blocks:
            match block:
                case Subheading(text):
                    heading = f"{section}: {text}"
                case Table() if block.rows:
                    lines += ["", *_table(block, heading, _label("tab", heading, taken))]
                case Figure():
                    lines += ["", *_figure(block, _label("fig", block.path.rpartition("/")[2], taken))]
    return "\n".join(lines) + "\n"


def _label(kind: str, name: str, taken: dict[str, int]) -> str:
    """tab:main-quantitative-results, and -2 for the next of that name."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower().removesuffix(".svg")).strip("-")
    taken[slug] = taken.get(slug, 0) + 1
    return f"{kind}:{slug}" + (f"-{taken[slug]}" if taken[slug] > 1 else "")


def _table(table: Table, caption: str, label: str) -> list[str]:
    wide = len(table.headers) >= _WIDE_COLUMNS
    environment = "table*" if wide else "table"
    columns = "".join("l" if header in table.left else "r" for header in table.headers)
    rows = [" & ".join(escaped(cell) for cell in row) + r" \\" for row in (table.headers, *table.rows)]
    return [
        rf"\begin{{{environment}}}",
        r"\centering",
        *([r"\footnotesize"] if wide else []),
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
        rf"\end{{{environment}}}",
    ]


def _figure(figure: Figure, label: str) -> list[str]:
    return [
        r"\begin{figure}",
        r"\centering",
        rf"\includegraphics[width=\linewidth]{{{figure.path.removesuffix('.svg')}.pdf}}",
        rf"\caption{{{escaped(figure.caption)}}}",
        rf"\label{{{label}}}",
        r"\end{figure}",
    ]
