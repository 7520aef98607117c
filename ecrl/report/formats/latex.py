"""Blocks -> one LaTeX file of booktabs tables and PDF figures to \\input into a paper.

It needs the packages array, booktabs and graphicx.
"""

import re
from collections.abc import Sequence

from ecrl.report.text.document import Block, Figure, Subheading, Table

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "∞": r"$\infty$", "<": r"$<$", ">": r"$>$",
    "\N{MINUS SIGN}": "$-$",
    "[": "{[}",  # after a line end, a bare bracket would begin an option

}  # fmt: skip
_MINUS = re.compile(r"(?<![\w.\])-])-(?=\.?\d)")  # a hyphen elsewhere joins words or the ends of a range
# A table that is wider than its column is scaled down to fit.
_FIT = (
    r"\providecommand{\ecrlfit}[1]{\sbox0{#1}\ifdim\wd0>\linewidth"
    r"\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}"
)
_PAGE_CHARACTERS = 112  # characters of \footnotesize across a page
_WIDE_CHARACTERS = 56  # a table with more characters spans both columns of a paper
_LONG_CELL, _NARROWEST = 34, 24  # characters: a column of words wraps above the first, to at least the second
_EM_A_CHARACTER = 0.5
_NOT_FOR_A_PAPER = frozenset({"Artifact index"})


def escape(text: str) -> str:
    """Escape text for LaTeX. **bold** and `code` become \\textbf and \\texttt."""
    plain = "".join(_ESCAPES.get(character, character) for character in _MINUS.sub("\N{MINUS SIGN}", text))
    plain = re.sub(r"`([^`]+)`", lambda code: rf"\texttt{{{_make_breakable(code[1])}}}", plain)
    return re.sub(r"\*\*([^*]+)\*\*", r"\\textbf{\1}", plain)


def _make_breakable(code: str) -> str:
    """Allow line breaks after hyphens, slashes and underscores of typewriter text; LaTeX alone does not break there."""
    return re.sub(r"(-|/|\\_)", r"\1\\allowbreak{}", code)


def document(title: str, generated: str, parts: Sequence[tuple[str, Sequence[Block]]]) -> str:
    """The LaTeX file with every table and figure of the sections, in order. The prose is in the Markdown draft only."""
    lines = [f"% {title}. {generated}", r"% \usepackage{array,booktabs,graphicx}, then \input this file.", _FIT]
    taken: dict[str, int] = {}
    captions: set[str] = set()
    for section, blocks in parts:
        heading = section
        for block in () if section in _NOT_FOR_A_PAPER else blocks:
            match block:
                case Subheading(text):
                    heading = f"{section}: {text}"
                case Table() if block.rows:
                    caption = heading if heading not in captions else _tell_apart(heading, block)
                    captions.add(caption)
                    lines += ["", *_table(block, caption, _label("tab", caption, taken))]
                case Figure():
                    lines += ["", *_figure(block, _label("fig", block.path.rpartition("/")[2], taken))]
    return "\n".join(lines) + "\n"


def _tell_apart(heading: str, table: Table) -> str:
    """A caption for another table below the same heading."""
    return f"{heading}, {table.headers[-1]} by {table.headers[0]}"


def _label(kind: str, name: str, taken: dict[str, int]) -> str:
    """A unique label, e.g. tab:main-quantitative-results; the next of the same name ends in -2. Updates `taken`."""
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
    """The column specification of the tabular: numbers to the right, words to the left.

    If the table is wider than the page, long columns of words become paragraphs that share the remaining width.
    """
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
