"""Threats to validity: the detected ones with their evidence, and those that could not be checked."""

from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Subheading, Table


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    report = evidence.threats
    blocks: list[Block] = []
    if report.found:
        ordered = sorted(report.found, key=lambda threat: not threat.blocking)
        rows = tuple((f"`{t.code}`", "blocks CONFIRMED" if t.blocking else "warning", t.evidence) for t in ordered)
        blocks.append(Table(("threat", "weight", "evidence"), rows, frozenset({"threat", "weight", "evidence"})))
    else:
        blocks.append(Paragraph("None of the conditions that were looked for is met."))
    if report.clear:
        blocks.append(Paragraph(f"Looked for and not met: {', '.join(f'`{code}`' for code in report.clear)}."))
    if report.not_checked:
        items = tuple(f"`{code}`: {why}" for code, why in report.not_checked.items())
        blocks += [Subheading("Cannot be seen here"), Bullets(items)]
    if report.not_applicable:
        items = tuple(f"`{code}`: {why}" for code, why in report.not_applicable.items())
        blocks += [Subheading("Does not apply"), Bullets(items)]
    if evidence.unsupported:
        blocks += [Subheading("What this table cannot support"), Bullets(evidence.unsupported)]
    return blocks


PLUGIN = Section(70, "Threats to validity", _blocks)
