"""The mean of d over the suites of a comparison, and its error: what it says depends on what is random in it.

Definitions: docs/metrics.md, "What a comparison is about".
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy import stats

from ecrl.analysis.statistics.intervals import (
    CONFIDENCE,
    EXACT_UP_TO,
    UNBOUNDED,
    Bounds,
    bca_interval,
    predict_next,
    sign_flip_p,
    t_bounds,
    t_p,
    tost_p,
)

# "suite": one suite; its seeds are random. "these suites": their mean; the seeds of each are random. "workloads":
# suites are random, a sample of the workloads that somebody could run.
Estimand = Literal["suite", "these suites", "workloads"]
MIN_SUITES_OF_WORKLOADS = 6  # with fewer suites no flip of their signs can reach p = .05
MIN_SEEDS = 2  # of every suite, for its own variance
MIN_LEFT_OUT = 3  # units; of two, leaving one out shows the other


def choose_estimand(suites: int) -> Estimand:
    """What a comparison over so many registered suites is about."""
    if suites < 2:
        return "suite"
    return "these suites" if suites < MIN_SUITES_OF_WORKLOADS else "workloads"


def name_block(seed: int | None) -> str:
    """'seed 3': a block of the only suite."""
    return f"seed {seed}"


@dataclass(frozen=True)
class LeaveOneOut:
    """The center without each unit in turn: its range, and the unit whose absence moves it most."""

    low: float
    high: float
    without: str
    center_without: float


@dataclass(frozen=True)
class Estimate:
    """The mean of the suite means of d. All values are on the scale of d. blocks: d by suite and seed."""

    estimand: Estimand
    blocks: Mapping[str, Mapping[int | None, float]]

    @cached_property
    def groups(self) -> list[list[float]]:
        """The values of d of every suite."""
        return [list(own.values()) for own in self.blocks.values()]

    @cached_property
    def means(self) -> list[float]:
        """The mean of every suite."""
        return [math.fsum(own) / len(own) for own in self.groups]

    @property
    def units(self) -> list[float]:
        """The independent observations: suite means for workloads, otherwise blocks."""
        return self.means if self.estimand == "workloads" else [d for own in self.groups for d in own]

    @property
    def weights(self) -> list[float]:
        """The weight of every block in the center."""
        return [1 / (len(self.groups) * len(own)) for own in self.groups for _ in own]

    @property
    def center(self) -> float:
        """The mean of the suite means."""
        return math.fsum(self.means) / len(self.means)

    @property
    def sd(self) -> float | None:
        """The standard deviation of one unit: of suite means for workloads, otherwise of d inside suites (pooled)."""
        if self.estimand == "workloads":
            return float(np.std(self.means, ddof=1)) if len(self.means) > 1 else None
        free = sum(len(own) - 1 for own in self.groups)
        squares = (d - mean for own, mean in zip(self.groups, self.means, strict=True) for d in own)
        return math.sqrt(math.fsum(gap**2 for gap in squares) / free) if free else None

    @cached_property
    def error(self) -> tuple[float, float] | None:
        """(standard error, degrees of freedom) of the center; None if the runs do not show it."""
        if self.estimand == "workloads":
            n = len(self.means)
            return None if self.sd is None else (self.sd / math.sqrt(n), n - 1)
        counts = [len(own) for own in self.groups]
        if min(counts) < MIN_SEEDS:
            return None
        # Each suite has its own variance: a pooled one is wrong where the spreads of suites differ.
        parts = [float(np.var(own, ddof=1)) / len(own) for own in self.groups]
        total = math.fsum(parts)
        if not total:
            return 0.0, float(sum(counts) - len(counts))
        # Satterthwaite's degrees of freedom (Biometrics Bulletin 1946)
        df = total**2 / math.fsum(part**2 / (n - 1) for part, n in zip(parts, counts, strict=True))
        return math.sqrt(total) / len(parts), df

    def interval(self, confidence: float = CONFIDENCE) -> Bounds:
        """The t interval of the center."""
        return UNBOUNDED if self.error is None else t_bounds(self.center, *self.error, confidence)

    @property
    def test(self) -> Literal["sign-flip", "t"]:
        """The test behind `compute_p`."""
        # The blocks of several suites are not symmetric about the mean of all suites, so no flip of theirs tests it.
        return "t" if self.estimand == "these suites" and len(self.groups) > 1 else "sign-flip"

    @property
    def is_exact(self) -> bool:
        """Whether p is from all sign patterns."""
        return self.test == "sign-flip" and len(self.units) <= EXACT_UP_TO

    def compute_p(self, null: float) -> float | None:
        """Two-sided p of "the mean of d is `null`"; None if the runs show no error."""
        if self.test == "sign-flip":
            return sign_flip_p(self.units, null)
        return None if self.error is None else t_p(self.center - null, *self.error)

    def compute_tost_p(self, low: float, high: float) -> float | None:
        """p of the two one-sided tests that the mean of d lies in (low, high); None if the runs show no error."""
        return None if self.error is None else tost_p(self.center, *self.error, low, high)

    @cached_property
    def bca(self) -> Bounds:
        """The 95 % BCa bootstrap interval over the units; for several suites, over the seeds inside each."""
        return bca_interval([self.means] if self.estimand == "workloads" else self.groups)

    def predict_next(self) -> Bounds:
        """The 95 % prediction interval of the mean of one more suite."""
        return predict_next(self.means)

    @property
    def median(self) -> float:
        """The median of the suite means; of the blocks, if there is one suite."""
        return statistics.median(self._separate().values())

    @property
    def centers_without(self) -> dict[str, float]:
        """The center without each suite, or without each block of the only suite, by name; {} below three of them."""
        units = self._separate()
        if len(units) < MIN_LEFT_OUT:
            return {}
        total = math.fsum(units.values())
        return {name: (total - d) / (len(units) - 1) for name, d in units.items()}

    @cached_property
    def leave_one_out(self) -> LeaveOneOut | None:
        """The center without each suite in turn, or without each block of the only suite; None below three of them."""
        centers = self.centers_without
        if not centers:
            return None
        without = max(centers, key=lambda name: abs(centers[name] - self.center))
        return LeaveOneOut(min(centers.values()), max(centers.values()), without, centers[without])

    def _separate(self) -> dict[str, float]:
        """The suites, or the blocks of the only suite, by name."""
        if len(self.blocks) > 1:
            return dict(zip(self.blocks, self.means, strict=True))
        return {name_block(seed): d for own in self.blocks.values() for seed, d in own.items()}


def compute_sd_bound(sd: float, df: float, confidence: float) -> float:
    """The upper bound of a standard deviation that was estimated with these degrees of freedom (normal d)."""
    return sd * math.sqrt(df / float(stats.chi2.ppf(1 - confidence, df)))
