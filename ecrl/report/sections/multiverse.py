"""Multiverse: what every other defensible analysis would say."""

from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section
from ecrl.report.text.multiverse import describe

_RULES = (
    "Each analysis makes one combination of the choices that apply: startup and shutdown and the warm-up of the first"
    " step counted or not, logarithmic or linear scale, mean or median, a statement about these suites or about"
    " workloads, with or without outlying blocks, one suite left out (of one suite: one block). Each is judged by the"
    " interval and the Holm-adjusted p alone: without threats, looks and the bootstrap interval. The claim stands on"
    " the registered analysis; the others say how much hangs on it."
)


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    found = evidence.multiverses
    if not found:
        return [Paragraph("No effect of two variants is there to be analysed in other ways.")]
    plots = [figure for name, figure in figures.items() if name.startswith("multiverse-")]
    rules = [Paragraph(_RULES)] if any(one.analyses for one in found) else []
    return [Bullets(tuple(describe(one, evidence) for one in found)), *rules, *plots]


PLUGIN = Section(62, "Multiverse", _blocks)
