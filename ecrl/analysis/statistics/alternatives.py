"""Other defensible analyses of a comparison: another center, scale, estimand, or fewer blocks.

Definitions: docs/metrics.md, "Multiverse".
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from ecrl.analysis.statistics.compare import Comparison, restrict
from ecrl.analysis.statistics.estimate import MIN_SEEDS, Estimand, Estimate, name_block
from ecrl.analysis.statistics.gain_by_cause import log_mean
from ecrl.analysis.statistics.intervals import ALPHA, CONFIDENCE, UNBOUNDED, Bounds

Center = Literal["mean", "median"]
FAR = 3.5  # robust standard deviations (Iglewicz and Hoaglin 1993)
_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class MedianEstimate(Estimate):
    """The median of the units, with the interval and the p of the sign test."""

    @property
    def center(self) -> float:
        """The median suite; of one suite, the median block."""
        return self.median

    def interval(self, confidence: float = CONFIDENCE) -> Bounds:
        """The interval between two units that has at least this confidence; (None, None) if all are too few."""
        found: Any = stats.quantile_test(self.units, q=0, p=0.5).confidence_interval(confidence)
        low, high = float(found.low), float(found.high)
        return UNBOUNDED if math.isnan(low) or math.isnan(high) else (low, high)

    def compute_p(self, null: float) -> float | None:
        """Two-sided p of "the median of d is `null`"."""
        return float(stats.quantile_test(self.units, q=null, p=0.5).pvalue)

    def compute_tost_p(self, low: float, high: float) -> float | None:
        """p of the two one-sided sign tests that the median of d lies in (low, high)."""
        above = stats.quantile_test(self.units, q=low, p=0.5, alternative="greater").pvalue
        below = stats.quantile_test(self.units, q=high, p=0.5, alternative="less").pvalue
        return float(max(above, below))


@dataclass(frozen=True)
class Alternative(Comparison):
    """A comparison that is about something else than its registered suites decide, or that takes another center."""

    about: Estimand = "suite"
    centered_by: Center = "mean"

    @property
    def estimand(self) -> Estimand:
        """What was chosen."""
        return self.about

    def estimate_as(self, estimand: Estimand) -> Estimate | None:
        """See `Comparison.estimate_as`."""
        found = super().estimate_as(estimand)
        if found is None or self.centered_by == "mean":
            return found
        return MedianEstimate(found.estimand, found.blocks)

    @property
    def bca(self) -> Bounds:
        """None: hundreds of bootstraps would take minutes."""
        return UNBOUNDED

    @property
    def can_decide(self) -> bool:
        """Whether the test of these units can reach a p of 5 %."""
        if self.test == "t":
            return self.estimate is not None and self.estimate.error is not None
        return 2.0 ** (1 - len(self.units)) <= ALPHA


def choose(c: Comparison, about: Estimand, center: Center) -> Alternative:
    """The same pairs as a statement about `about`."""
    return Alternative(c.a, c.b, c.metric, c.kind, c.pairs, c.missing, c.works, about, center)


def rescale(c: Comparison) -> Comparison | None:
    """The same comparison on the other scale, in the same unit; None where a value is not above 0.

    Of a ratio: the mean of a / b instead of the mean of its logarithm. Of a difference: that of the geometric means.
    """
    if any(pair.a <= 0 or pair.b <= 0 for pair in c.pairs):
        return None
    if c.kind == "ratio":
        return replace(c, kind="difference", pairs=tuple(replace(pair, d=pair.a / pair.b) for pair in c.pairs))
    unit = log_mean(*(float(stats.gmean([getattr(pair, name) for pair in c.pairs])) for name in ("a", "b")))
    return replace(c, pairs=tuple(replace(pair, d=unit * math.log(pair.a / pair.b)) for pair in c.pairs))


def find_outlying(c: Comparison) -> frozenset[tuple[str, int | None]]:
    """The blocks that lie more than FAR robust standard deviations from the mean of their suite."""
    assert c.estimate is not None
    away = {
        (suite_id, seed): abs(d - mean)
        for (suite_id, own), mean in zip(c.estimate.blocks.items(), c.estimate.means, strict=True)
        if len(own) >= MIN_SEEDS
        for seed, d in own.items()
    }
    spread = _MAD_TO_SD * float(np.median(list(away.values()))) if away else 0.0
    return frozenset(block for block, distance in away.items() if spread and distance > FAR * spread)


def drop_blocks(c: Comparison, blocks: frozenset[tuple[str, int | None]]) -> Comparison:
    """The comparison without these blocks."""
    return replace(c, pairs=tuple(pair for pair in c.pairs if (pair.suite_id, pair.seed) not in blocks))


def list_removable(c: Comparison) -> list[str]:
    """The suites, or the blocks of the only suite: that whose absence moves the center most stands first."""
    assert c.estimate is not None
    moved = {name: abs(center - c.estimate.center) for name, center in c.estimate.centers_without.items()}
    return sorted(moved, key=lambda name: -moved[name])


def remove(c: Comparison, name: str) -> Comparison:
    """The comparison without one of `list_removable`."""
    suites = {pair.suite_id for pair in c.pairs}
    if name in suites:
        return restrict(c, suites - {name})
    return replace(c, pairs=tuple(pair for pair in c.pairs if name_block(pair.seed) != name))
