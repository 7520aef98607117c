"""The report of training jobs: what checkpoints and failures cost, and whether recovery gave back what was lost."""

import re

from ecrl import plugins
from ecrl.analysis.evidence import Evidence
from ecrl.report.pages import analysis as analysis_page
from ecrl.report.plots import plots
from ecrl.report.text.answer import build_answer
from ecrl.report.text.document import Block, Card, Figure, Section
from ecrl.report.text.kind import ReportKind
from ecrl.report.text.numbers import bounds, format_fixed, has_interval, number

_SECTION = "report section"


class TrainingReport(ReportKind):
    """Owns every section of the family."""

    plot_names = re.compile(r"causes|ratios|stall_gain|ledger|ledger_steps|restarts|losses|multiverse-.+|timeline-.+")

    def build_title(self, evidence: Evidence) -> str:
        """See `ReportKind.build_title`."""
        return f"{evidence.prefix}: what checkpointing {'and failures cost' if evidence.plans_failures else 'costs'}"

    def list_sections(self) -> list[Section]:
        """Every member of the family, sorted by `order`."""
        members: list[Section] = [plugins.load(_SECTION, name) for name in plugins.names(_SECTION)]
        return sorted(members, key=lambda section: section.order)

    def list_tables(self) -> list[Section]:
        """See `ReportKind.list_tables`."""
        return analysis_page.sections()

    def build_answer(self, evidence: Evidence) -> list[Block]:
        """See `answer.build_answer`."""
        return build_answer(evidence)

    def build_cards(self, evidence: Evidence) -> list[Card]:
        """Correctness, and goodput and stall of the main comparison."""
        cards = []
        gates = [row["correct"] for row in evidence.completed if row["correct"] is not None]
        if gates:
            cards.append(Card(f"{sum(gates)} / {len(gates)}", "runs correct"))
        if evidence.headline is None:
            return cards
        c = evidence.compare(*evidence.headline)
        if c.overall is not None:
            said = f"95 % {bounds(c)}" if has_interval(c) else bounds(c)
            cards.append(Card(number(c.overall.center, 4 if has_interval(c) else 3), f"goodput {c.a} / {c.b}, {said}"))
        stall = evidence.compare(*evidence.headline, metric="stall_s", kind="difference").overall
        if stall is not None:
            cards.append(Card(f"{format_fixed(-stall.center)} s", f"stall saved per run by {c.a}"))
        return cards

    def draw(self, evidence: Evidence, *, pdf: bool) -> dict[str, Figure]:
        """See `plots.draw`."""
        return plots.draw(evidence, pdf=pdf)


PLUGIN = TrainingReport()
