"""Whether two variants recover equally often: exact McNemar where blocks pair them, Fisher's exact test where not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import BlockKey


@dataclass(frozen=True)
class RateComparison:
    """Correct runs with failures of two variants. test: `McNemar` over the blocks that hold both (discordant: those
    in which one alone was correct), `Fisher` over all runs where fewer than all are paired."""

    a: str
    b: str
    correct_a: int
    runs_a: int
    correct_b: int
    runs_b: int
    discordant: tuple[int, int] | None
    test: Literal["McNemar", "Fisher"]
    p: float


def compare_recovery(rows: Sequence[Row], a: str, b: str) -> RateComparison | None:
    """Compare the rates of correct recovery; None unless both variants had runs that a failure struck.

    Counts are those of `recoveries`, undecided runs left out.
    """
    ours, theirs = (
        {key: good for key, good in recoveries(rows, variant).items() if good is not None} for variant in (a, b)
    )
    if not ours or not theirs:
        return None
    counts = (sum(ours.values()), len(ours), sum(theirs.values()), len(theirs))
    if ours.keys() == theirs.keys():
        discordant = _count_discordant(ours, theirs)
        return RateComparison(a, b, *counts, discordant, "McNemar", mcnemar_p(*discordant))
    table = [[counts[0], counts[1] - counts[0]], [counts[2], counts[3] - counts[2]]]
    return RateComparison(a, b, *counts, None, "Fisher", float(stats.fisher_exact(np.array(table)).pvalue))


def recoveries(rows: Sequence[Row], variant: str) -> dict[BlockKey, bool | None]:
    """Whether each run of a variant that a failure struck, and that ended, recovered correctly; None: undecided.

    Failed runs count as not correct: a recovery that never ended is none. Nothing is dropped here.
    """
    return {
        (row["suite_id"], row["seed"]): _has_recovered(row)
        for row in rows
        if row["variant"] == variant and row["failures_fired"] and row["outcome"] in ("completed", "failed")
    }


def mcnemar_p(only_a: int, only_b: int) -> float:
    """Exact two-sided McNemar p: a binomial test of the discordant blocks (statsmodels' mcnemar(exact=True))."""
    n = only_a + only_b
    return 1.0 if n == 0 else float(stats.binomtest(only_a, n).pvalue)


def _has_recovered(row: Row) -> bool | None:
    if row["outcome"] == "failed":
        return False
    return row["correct"] if isinstance(row["correct"], bool) else None


def _count_discordant(ours: Mapping[BlockKey, bool], theirs: Mapping[BlockKey, bool]) -> tuple[int, int]:
    only_a = sum(good and not theirs[key] for key, good in ours.items())
    only_b = sum(good and not ours[key] for key, good in theirs.items())
    return only_a, only_b
