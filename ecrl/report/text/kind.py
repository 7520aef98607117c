"""What the report asks of a kind of experiment: the file `report.py` of its folder exports a `ReportKind`."""

import re
from abc import ABC, abstractmethod

from ecrl import plugins
from ecrl.analysis.evidence import Evidence
from ecrl.report.text.document import Block, Card, Figure, Section


class ReportKind(ABC):
    """What the report of a kind of experiment is made of.

    plot_names: matches the name of every plot that the kind draws. A plot that has no data any more is removed.
    """

    plot_names: re.Pattern[str] = re.compile(r"(?!)")  # matches nothing

    @abstractmethod
    def build_title(self, evidence: Evidence) -> str:
        """The title of the report."""

    @abstractmethod
    def list_sections(self) -> list[Section]:
        """The sections of the report, in order: own ones, and members of the family `report section`."""

    def list_tables(self) -> list[Section]:
        """The sections of the analysis file, which holds numbers without prose, in order."""
        return []

    def build_answer(self, evidence: Evidence) -> list[Block]:
        """What the evidence says in a few lines, which `ecrl report` prints last."""
        return []

    def build_cards(self, evidence: Evidence) -> list[Card]:
        """The cards with the most important numbers, besides those of every kind."""
        return []

    def draw(self, evidence: Evidence, *, pdf: bool) -> dict[str, Figure]:
        """The plots for which there is data, by name. pdf: add PDF versions."""
        return {}


def load_kind(name: str) -> ReportKind:
    """The kind of experiment with this name."""
    kind: ReportKind = plugins.load("experiment", name, "report")
    return kind
