"""The A/A noise: what equal runs differ by. The mean of an effect must exceed the mean of as many such differences.

Definitions: docs/metrics.md, "Noise of equal runs".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from scipy import stats

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import CONFIDENCE, Kind, t_interval
from ecrl.config.suite import get_repeated_variant


@dataclass(frozen=True)
class Noise:
    """The comparison of the second runs of an arm with the first. arm: the variant that ran twice."""

    comparison: Comparison
    arm: str

    @property
    def d(self) -> list[float]:
        """The differences of equal runs, on the scale of d (the logarithm for a ratio). Their true mean is 0."""
        return [pair.d for pair in self.comparison.pairs]

    @property
    def sd(self) -> float:
        """The root mean square of d: from one pair on, as the true mean is 0."""
        return math.sqrt(math.fsum(d**2 for d in self.d) / len(self.d))

    @property
    def sd_bounds(self) -> tuple[float, float]:
        """The 95 % interval of `sd` (chi-square, normal d)."""
        n, tail = len(self.d), (1 - CONFIDENCE) / 2
        low, high = (math.sqrt(n / float(stats.chi2.ppf(q, n))) for q in (1 - tail, tail))
        return self.sd * low, self.sd * high

    def compute_mean_bound(self, weights: Sequence[float]) -> float:
        """What the weighted mean of such differences stays below in 95 % of cases: t(n pairs) x sd x sqrt(sum w^2)."""
        t = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(self.d)))
        return t * self.sd * math.sqrt(math.fsum(weight**2 for weight in weights))

    @property
    def bias(self) -> float | None:
        """How far from 0 the mean of d may lie, if its t interval excludes 0: equal runs are told apart. Else None."""
        low, high = t_interval(self.d, CONFIDENCE)
        if low is None or high is None or low <= 0 <= high:
            return None
        return max(abs(low), abs(high))


def measure_noise(
    campaign: LoadedCampaign,
    metric: str = "goodput_steps_per_s",
    kind: Kind = "ratio",
    where: Mapping[str, Any] = MappingProxyType({}),
    variants: Sequence[str] = (),
) -> Noise | None:
    """The noise of a metric over the suites that `where` selects, as a claim's `where` does.

    variants: those that are compared. The noisiest arm counts, of the reference and these; of all, if none is given.
    None if none of them ran twice, or if the metric is 0 in all these runs.
    """
    found = []
    for arm in dict.fromkeys(get_repeated_variant(run.row["variant"]) for run in campaign.again):
        if variants and arm not in (*variants, REFERENCE):
            continue
        again = [run.row for run in campaign.again if get_repeated_variant(run.row["variant"]) == arm]
        rows = [*again, *(run.row for run in campaign.runs if run.row["variant"] == arm)]
        name = again[0]["variant"]
        c = compare(select_rows(rows, where), name, arm, metric, kind, campaign.faults)
        # A reference takes no checkpoint, so its stall is always 0. That two zeros agree says nothing about other runs.
        if any(pair.a or pair.b for pair in c.pairs):
            found.append(Noise(c, arm))
    return max(found, key=lambda one: one.sd, default=None)
