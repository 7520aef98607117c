"""Threats to validity: the detected ones with their evidence, and those that could not be checked."""

from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Subheading, Table

_MOST_NAMED = 6  # conditions that cannot be seen for one reason; more are counted


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
        blocks += [Subheading("Cannot be seen here"), Bullets(tuple(_describe_unseen(evidence)))]
    if report.not_applicable:
        items = tuple(f"`{code}`: {why}" for code, why in report.not_applicable.items())
        blocks += [Subheading("Does not apply"), Bullets(items)]
    if evidence.unsupported:
        blocks += [Subheading("What this table cannot support"), Bullets(evidence.unsupported)]
    return blocks


def _describe_unseen(evidence: Evidence) -> list[str]:
    """A sentence for each condition that cannot be seen, and one for all those with a common reason."""
    codes: dict[str, list[str]] = {}
    for code, why in evidence.threats.not_checked.items():
        codes.setdefault(why, []).append(code)
    alone = [f"`{code}`: {why}" for why, own in codes.items() if len(own) <= _MOST_NAMED for code in own]
    shared = [
        f"{len(own)} more conditions, each of which {why}: `{evidence.prefix}_threats.csv` lists them."
        for why, own in codes.items()
        if len(own) > _MOST_NAMED
    ]
    return alone + shared


PLUGIN = Section(70, "Threats to validity", _blocks)
