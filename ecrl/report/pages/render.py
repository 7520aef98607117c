"""Writes evidence to files: tables, analysis, report draft, plots, HTML.

Equal evidence gives equal bytes, except for the time of writing; SOURCE_DATE_EPOCH fixes that too.
"""

import io
import os
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from ecrl.analysis.campaign import tables
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.verdict_frames import build_claims_frame, build_threats_frame
from ecrl.errors import EcrlError
from ecrl.report.formats import latex
from ecrl.report.formats.html import page
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages import provenance
from ecrl.report.pages.formats import DEFAULT_FORMATS
from ecrl.report.text.document import Block, Card, Figure, Paragraph, Table
from ecrl.report.text.kind import ReportKind, load_kind
from ecrl.storage.atomic import write_atomic

_Part: TypeAlias = tuple[str, Sequence[Block]]  # the title of a section and its blocks


def render(evidence: Evidence, folder: Path, wanted: Collection[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write every wanted document into `folder`. Returns the paths of the written files.

    Raises:
        EcrlError: the folder cannot be written.
    """
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if "csv" in wanted:
            written += [_write(folder, name, tables.format_csv(frame)) for name, frame in _tables(evidence).items()]
        if "json" in wanted:
            written.append(_write(folder, f"{evidence.prefix}_report.json", provenance.build_text(evidence)))
        if "parquet" in wanted:
            written.append(_write_parquet(folder, f"{evidence.prefix}_runs.parquet", evidence.frame))
        if {"md", "html", "tex"} & set(wanted):
            kind = load_kind(evidence.kind)
            title = kind.build_title(evidence)
            figures = kind.draw(evidence, pdf="tex" in wanted)
            written += _plots(folder, figures, kind.plot_names)
            sections = kind.list_sections()
            above = sum(section.order == 0 for section in sections)
            parts = [(section.title, section.blocks(evidence, figures)) for section in sections]
            numbered = _number(parts, first=0 if above else 1)
            if "md" in wanted:
                numbers = [(section.title, section.blocks(evidence, figures)) for section in kind.list_tables()]
                name = evidence.prefix
                written.append(_write(folder, f"{name}_analysis.md", _document(f"{name}: analysis", _number(numbers))))
                written.append(_write(folder, f"{name}_report.md", _document(title, numbered)))
            if "html" in wanted:
                text = page(title, _generation_time(), _cards(evidence, kind), numbered, above)
                written.append(_write(folder, f"{evidence.prefix}_report.html", text))
            if "tex" in wanted:
                text = latex.document(title, _generation_time(), parts)
                written.append(_write(folder, f"{evidence.prefix}_tables.tex", text))
    except OSError as error:
        raise EcrlError(
            "ECRL-106",
            f"{folder}: the report cannot be written: {error.strerror or error}.\nName another folder with --out.",
        ) from error
    return written


def format_answer(evidence: Evidence) -> str:
    """The answer in a few lines; empty for a kind of experiment that has none."""
    return markdown(load_kind(evidence.kind).build_answer(evidence))


def split_answer(evidence: Evidence) -> tuple[list[str], list[tuple[list[str], list[list[str]]]]]:
    """The answer's sentences, and the (header, rows) of its tables."""
    blocks = load_kind(evidence.kind).build_answer(evidence)
    tables = [block for block in blocks if isinstance(block, Table)]
    sentences = [block.text for block in blocks if isinstance(block, Paragraph)]
    return sentences, [(list(table.headers), [list(row) for row in table.rows]) for table in tables]


def _tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The tables by file name. The detailed table is included only if the evidence comes from a campaign."""
    # Evidence from a detailed table must not overwrite that table.
    found = {"runs": evidence.frame, "summary": tables.build_summary_frame(evidence.frame, evidence.axes)}
    if evidence.source == "campaign":
        found["detailed_table"] = tables.build_detailed_frame(evidence.frame, evidence.dropped, evidence.axes)
    found["claims"] = build_claims_frame(evidence.claims, evidence.threats)
    found["threats"] = build_threats_frame(evidence.threats)
    return {f"{evidence.prefix}_{name}.csv": frame for name, frame in found.items()}


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    write_atomic(path, text.encode())
    return path


def _write_parquet(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    held = io.BytesIO()
    frame.to_parquet(held, engine="pyarrow", index=False)
    path = folder / name
    write_atomic(path, held.getvalue())
    return path


def _plots(folder: Path, figures: dict[str, Figure], names: re.Pattern[str]) -> list[Path]:
    """Write the plots, and remove the plots of an earlier report that have no data any more.

    names: matches the names of plots that a report may have written.
    """
    plots = folder / "plots"
    if figures:
        plots.mkdir(exist_ok=True)
    written = []
    for figure in figures.values():
        path = folder / figure.path
        for place, content in ((path, figure.svg), (path.with_suffix(".pdf"), figure.pdf)):
            if content:
                write_atomic(place, content)
                written.append(place)
    for stale in set(plots.glob("*.*")) - set(written):  # an older PDF of a plot that still exists stays
        is_ours = stale.suffix in (".svg", ".pdf") and names.fullmatch(stale.stem)
        if is_ours and stale.with_suffix(".svg") not in written:
            stale.unlink()
    return written


def _number(parts: Sequence[_Part], first: int = 1) -> list[_Part]:
    """The sections with numbered titles. first: the number of the first one."""
    return [(f"{place}. {name}", blocks) for place, (name, blocks) in enumerate(parts, start=first)]


def _document(title: str, parts: Sequence[_Part]) -> str:
    """The Markdown document."""
    bodies = [f"## {name}\n\n{markdown(blocks)}" for name, blocks in parts]
    return "\n\n".join([f"# {title}", *bodies, f"*{_generation_time()}*"]) + "\n"


def _generation_time() -> str:
    """A sentence with the time of writing. SOURCE_DATE_EPOCH (reproducible-builds.org) replaces the current time."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdigit() else datetime.now(UTC)
    return f"Written by ecrl report, {now:%Y-%m-%d %H:%M} UTC."


def _cards(evidence: Evidence, kind: ReportKind) -> list[Card]:
    """The cards with the most important numbers."""
    counted = "runs completed" if evidence.source == "campaign" else "goodputs known"
    cards = [Card(f"{len(evidence.completed)} / {len(evidence.rows)}", counted), *kind.build_cards(evidence)]
    verdicts = [judged.verdict.partition(":")[0] for judged in evidence.claims]
    cards += [Card(str(verdicts.count(verdict)), f"claims {verdict}") for verdict in sorted(set(verdicts))]
    blocking = len(evidence.threats.veto_codes)
    what = "threat that forbids CONFIRMED" if blocking == 1 else "threats that forbid CONFIRMED"
    cards.append(Card(str(blocking), what))
    return cards
