"""Blocks -> one LaTeX file of booktabs tables and PDF figures to \\input into a paper.

It needs the packages array, booktabs and graphicx.
"""

import re
from collections.abc import Sequence

from ecrl.report.text.document import Block, Figure, Subheading, Table

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "∞": r"$\infty$", "<": r"$<$", ">": r"$>$",
    "[": "{[}",  # after a line end it would begin an option

}  # fmt: skip
# A table that is wider than its column is set smaller until it fits.
_FIT = (
    r"\providecommand{\ecrlfit}[1]{\sbox0{#1}\ifdim\wd0>\linewidth"
    r"\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}"
)
_PAGE_CHARACTERS = 112  # of \footnotesize on a page
_WIDE_CHARACTERS = 56  # from here on a table spans both columns of a paper
_LONG_CELL, _NARROWEST = 34, 24  # characters: from where on a cell of words wraps, and into what at least
_EM_A_CHARACTER = 0.5
_NOT_FOR_A_PAPER = frozenset({"Artifact index"})


def escape(text: str) -> str:
    """Text as LaTeX prints it; **bold** and `code` become \\textbf and \\texttt."""
    plain = "".join(_ESCAPES.get(character, character) for character in text)
    plain = re.sub(r"`([^`]+)`", lambda code: rf"\texttt{{{_make_breakable(code[1])}}}", plain)
    return re.sub(r"\*\*([^*]+)\*\*", r"\\textbf{\1}", plain)


def _make_breakable(code: str) -> str:
    """Typewriter text that may be broken behind its hyphens, slashes and underscores, which LaTeX does not do."""
    return re.sub(r"(-|/|\\_)", r"\1\\allowbreak{}", code)


def document(title: str, generated: str, parts: Sequence[tuple[str, Sequence[Block]]]) -> str:
    """Every table and figure of the sections, in order; prose stays in the Markdown draft."""
    lines = [f"% {title}. {generated}", r"% \usepackage{array,booktabs,graphicx}, then \input this file.", _FIT]
    taken: dict[str, int] = {}
    for section, blocks in parts:
        heading = section
        for block in () if section in _NOT_FOR_A_PAPER else blocks:
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
    widths = [max(map(len, cells)) + 2 for cells in zip(table.headers, *table.rows, strict=True)]
    environment = "table*" if sum(widths) > _WIDE_CHARACTERS else "table"
    columns = _columns(table, widths)
    rows = [" & ".join(escape(cell) for cell in row) + r" \\" for row in (table.headers, *table.rows)]
    return [
        rf"\begin{{{environment}}}",
        r"\centering",
        r"\footnotesize",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{{label}}}",
        rf"\ecrlfit{{\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\end{{{environment}}}",
    ]


def _columns(table: Table, widths: Sequence[int]) -> str:
    """The tabular's columns: numbers right, words left, and words that are sentences in paragraphs that share what
    the others leave of the page."""
    long = [header in table.left and width > _LONG_CELL for header, width in zip(table.headers, widths, strict=True)]
    if sum(widths) <= _PAGE_CHARACTERS:
        long = [False] * len(long)
    wrapped = sum(width for width, wraps in zip(widths, long, strict=True) if wraps)
    room = max(_PAGE_CHARACTERS - sum(widths) + wrapped, 0)
    found = []
    for header, width, wraps in zip(table.headers, widths, long, strict=True):
        if wraps:
            ems = max(_NARROWEST, min(width, room * width // wrapped)) * _EM_A_CHARACTER
            found.append(rf">{{\raggedright\arraybackslash}}p{{{ems:g}em}}")
        else:
            found.append("l" if header in table.left else "r")
    return "".join(found)


def _figure(figure: Figure, label: str) -> list[str]:
    return [
        r"\begin{figure}",
        r"\centering",
        rf"\ecrlfit{{\includegraphics{{{figure.path.removesuffix('.svg')}.pdf}}}}",
        rf"\caption{{{escape(figure.caption)}}}",
        rf"\label{{{label}}}",
        r"\end{figure}",
    ]
