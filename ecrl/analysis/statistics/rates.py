"""Comparison of the recovery rates of two variants: exact McNemar test if all runs are paired, else Fisher's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import BlockKey


@dataclass(frozen=True)
class RateComparison:
    """The correct recoveries of two variants, and the p of their difference.

    runs_a, runs_b: decided runs that a failure struck. test: `McNemar` over blocks if these runs of a and b are in the
    same blocks; otherwise `Fisher` over all runs. discordant (McNemar only): the number of blocks in which only a, and
    of those in which only b, was correct.
    """

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
    """Compare the rates of correct recovery; None unless both variants have decided runs that a failure struck.

    The runs are those of `recoveries`, without undecided ones.
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
    """Whether the runs of a variant recovered correctly, by block. None: undecided.

    The runs are those that a failure struck and that completed or failed, also of dropped blocks. Failed runs count as
    not correct. Runs that began again (see `find_restarted_from_zero`) are left out: they recovered nothing.
    """
    apart = find_restarted_from_zero(rows, variant)
    return {key: _has_recovered(row) for key, row in _list_struck(rows, variant).items() if key not in apart}


def find_restarted_from_zero(rows: Sequence[Row], variant: str) -> set[BlockKey]:
    """The blocks in which a failure struck the variant's run, and no restart of it found a checkpoint.

    Runs that failed or are not correct count among `recoveries`, as not recovered.
    """
    # a table made elsewhere does not say what was restored
    return {
        key
        for key, row in _list_struck(rows, variant).items()
        if row["outcome"] == "completed" and row["correct"] is not False and row["restarts"] and row["restores"] == 0
    }


def _list_struck(rows: Sequence[Row], variant: str) -> dict[BlockKey, Row]:
    return {
        (row["suite_id"], row["seed"]): row
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
