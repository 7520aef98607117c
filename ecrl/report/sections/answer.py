"""The answer: one sentence, one row per variant, and where the difference of the main comparison comes from."""

from ecrl.analysis.evidence import Evidence
from ecrl.report.text.answer import build_answer
from ecrl.report.text.by_cause import cause_blocks
from ecrl.report.text.document import Block, Figures, Section


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    return [*build_answer(evidence), *cause_blocks(evidence, figures)]


PLUGIN = Section(0, "Answer", _blocks)
