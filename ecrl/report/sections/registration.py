"""Registration: the registration file, against what ran."""

from ecrl.analysis.campaign.registered_plan import PlanComparison
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.threats.base import join_some
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section
from ecrl.report.text.numbers import count

_MOST_RUNS = 12


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    if evidence.source == "table":
        return [Paragraph("A table carries no registration.")]
    if not evidence.plans:
        text = (
            "There is no registration file (`ecrl register`): what was planned is known from the frozen matrix alone."
        )
        return [Paragraph(text)]
    return [block for plan in evidence.plans for block in _describe(plan)]


def _describe(plan: PlanComparison) -> list[Block]:
    kept = "" if plan.is_kept else " It was not there when the campaign was frozen."
    text = (
        f"`{plan.name}` (SHA-256 {plan.sha256[:12]}) registers {count(plan.n_blocks, 'block')} of"
        f" {plan.prefix}: {plan.time}.{kept}"
    )
    found = [*plan.claims, *plan.settings]
    if plan.missing:
        found.append(
            f"registered, and not ended ({count(len(plan.missing), 'run')}): {join_some(plan.missing, _MOST_RUNS)}"
        )
    if plan.added:
        found.append(
            f"not registered, and there ({count(len(plan.added), 'run')}): {join_some(plan.added, _MOST_RUNS)}"
        )
    if plan.analysis:
        found.append(f"analysis: {plan.analysis}")
    if not found:
        return [Paragraph(f"{text} What ran is what was registered: claims, blocks and analysis.")]
    return [Paragraph(f"{text} What differs:"), Bullets(tuple(f"{item}." for item in found))]


PLUGIN = Section(65, "Registration", _blocks)
