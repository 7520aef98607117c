"""What the analysis asks of a kind of experiment: the file `metrics.py` of its folder exports a `MetricsKind`."""

from abc import ABC, abstractmethod
from typing import ClassVar

from ecrl import plugins
from ecrl.analysis.frames.columns import DTypes
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.records.reader import RunRecord


class MetricsKind(ABC):
    """The metrics of a kind of experiment. columns: of the runs table, in order, with their types."""

    columns: ClassVar[DTypes]

    @abstractmethod
    def analyse(self, record: RunRecord, reference: RunAnalysis | None, *, has_reference: bool) -> RunAnalysis:
        """Compute all metrics of a run.

        reference: the analysis of the block's reference run; None if it is missing or failed, or if this run is it.
        has_reference: whether the block should have a reference.
        """

    def can_compare_with(self, reference: RunAnalysis) -> bool:
        """Whether runs may be compared with this run of the reference."""
        return bool(reference.row["outcome"] == "completed")

    def find_fault(self, run: RunAnalysis) -> str | None:
        """Why no comparison may use the block of this run; None if the run is sound."""
        row = run.row
        return None if row["outcome"] == "completed" else f"{row['variant']} is {row['outcome']}"


def load_kind(name: str) -> MetricsKind:
    """The kind of experiment with this name."""
    kind: MetricsKind = plugins.load("experiment", name, "metrics")
    return kind
