"""What one checkpoint and one failure cost: the same numbers wherever they are shown.

Definitions: docs/metrics.md, "The answer".
"""

from collections.abc import Sequence

from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, Faults, compare

STALL, SLOWER_STEPS = "stall per checkpoint", "interference per checkpoint"
FAILURE, REPLAY = "cost of a failure", "replay of a failure"
# cost -> the columns that it is the ratio of, for each run
UNIT_COSTS = {
    STALL: ("stall_s", "checkpoints_requested"),
    SLOWER_STEPS: ("interference_s", "checkpoints_requested"),
    FAILURE: ("wasted_s", "restarts"),
    REPLAY: ("replayed_steps", "restarts"),
}


def measure_unit_cost(rows: Sequence[Row], variant: str, cost: str, faults: Faults) -> Comparison:
    """The mean over suites of what one checkpoint or failure costs a variant, over its own sound runs that had one."""
    above, below = UNIT_COSTS[cost]
    own = [row | {cost: _divide(row[above], row[below])} for row in rows if row["variant"] == variant]
    return compare(own, variant, None, cost, "difference", faults)


def _divide(total: float | None, n: int | None) -> float | None:
    return None if total is None or not n else total / n
