"""Minimal next runs: exact commands, and what each adds to the evidence."""

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.next_runs import SECONDS_PER_HOUR
from ecrl.report.text.document import Block, Code, Figures, Paragraph, Section
from ecrl.units import format_duration


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    if evidence.source == "table":
        return [Paragraph("The runs behind a table cannot be continued from here; `ecrl matrix run` makes new ones.")]
    if not evidence.next_runs:
        return [Paragraph("Nothing that these numbers call for.")]
    blocks: list[Block] = []
    for one in evidence.next_runs:
        time = f", about {format_duration(one.hours * SECONDS_PER_HOUR)}" if one.hours is not None else ""
        blocks.append(Paragraph(f"{one.buys}{time}."))
        if one.command:
            blocks.append(Code(one.command))
    return blocks


PLUGIN = Section(80, "Minimal next runs", _blocks)
