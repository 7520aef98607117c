"""The runs that would decide a claim, and the effect that the present ones could show.

Definitions: docs/metrics.md, "Power and next runs".
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import optimize, stats

from ecrl.analysis.claims.noise import Noise
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.estimate import MIN_SEEDS, MIN_SUITES_OF_WORKLOADS, Estimand, compute_sd_bound
from ecrl.analysis.statistics.intervals import ALPHA, MIN_PAIRS, POWER

MAX_SEEDS = 40  # of a suite; if more were needed, another design is the better advice
MAX_SUITES = 200
SD_CONFIDENCE = 0.80  # the SD of a small campaign is often too low, and so would be the number of runs


@dataclass(frozen=True)
class Spread:
    """The SD of d over the seeds of a suite, and between the true means of suites, each at its upper 80 % bound.

    between: 0 for statements about these suites. is_split: whether the two could be told apart; if not, all of it is
    `between`, which more seeds do not reduce.
    """

    within: float
    between: float
    is_split: bool


@dataclass(frozen=True)
class Design:
    """A campaign of `suites` suites with `seeds` seeds each."""

    estimand: Estimand
    suites: int
    seeds: int

    @property
    def least_p(self) -> float:
        """The smallest p that the test of this design can give."""
        if self.estimand == "these suites":
            return 0.0
        return 2.0 ** (1 - (self.suites if self.estimand == "workloads" else self.seeds))

    def compute_error(self, spread: Spread) -> tuple[float, float]:
        """(standard error, degrees of freedom) of the center."""
        blocks = self.suites * self.seeds
        if self.estimand == "workloads":
            return math.sqrt((spread.between**2 + spread.within**2 / self.seeds) / self.suites), self.suites - 1
        return spread.within / math.sqrt(blocks), blocks - self.suites


@dataclass(frozen=True)
class Aim:
    """What is to be told apart. distance: of the assumed effect from the claim's bound, on the scale of d.

    inside: the distances of the assumed effect from both margins of a `within` claim, otherwise None.
    is_registered: whether the claim names its smallest effect of interest; otherwise the observed effect is assumed to
    be the true one. alpha: the level after Holm over all claims, in the worst case. least_pairs: the pairs whose mean
    equal runs would not reach.
    """

    distance: float
    inside: tuple[float, float] | None
    is_registered: bool
    alpha: float
    least_pairs: int = MIN_PAIRS

    def compute_power(self, error: float, df: float) -> float:
        """The probability that runs with this error decide the claim."""
        if not error:
            return 1.0 if self.distance else 0.0
        if self.inside is not None:
            critical = float(stats.t.ppf(1 - self.alpha, df))
            # P(A) + P(B) - 1 is exact except for samples in which both tests fail
            above, below = (float(stats.nct.sf(critical, df, gap / error)) for gap in self.inside)
            return max(0.0, above + below - 1)
        critical = float(stats.t.ppf(1 - self.alpha / 2, df))
        return float(stats.nct.sf(critical, df, self.distance / error))


def estimate_spread(c: Comparison) -> Spread | None:
    """The spread that more runs are planned with; None if the runs do not show it."""
    if c.estimate is None:
        return None
    inside = c.estimate_as("these suites")
    assert inside is not None
    free = len(c.pairs) - len(inside.groups)
    within = compute_sd_bound(inside.sd, free, SD_CONFIDENCE) if inside.sd is not None else None
    if c.estimand != "workloads":
        return None if within is None else Spread(within, 0.0, is_split=True)
    if c.sd is None:
        return None
    total = compute_sd_bound(c.sd, len(inside.groups) - 1, SD_CONFIDENCE)
    if within is None or inside.sd is None:
        return Spread(0.0, total, is_split=False)
    noise = inside.sd**2 * float(np.mean([1 / len(group) for group in inside.groups]))
    return Spread(within, math.sqrt(max(0.0, total**2 - noise)), is_split=True)


def build_aim(judged: ClaimResult, claims: int, noise: Noise | None = None) -> Aim | None:
    """What a claim asks to be told apart; None if no effect is known. claims: the number of registered claims."""
    c, smallest = judged.comparison, judged.claim.smallest
    if c is None or c.estimate is None:
        return None
    low, high = (_scale(bound, c) for bound in judged.allowed)
    center, alpha = c.estimate.center, ALPHA / claims
    gaps = (center - low, high - center) if math.isfinite(low + high) and low < center < high else None
    distance = min(abs(center - bound) for bound in (low, high) if math.isfinite(bound))
    is_registered = smallest is not None and judged.threshold is not None
    if smallest is not None and is_registered:
        # as a share of the bound, on the side that the claim is about
        distance = smallest if c.kind == "difference" else _log_share(smallest, above=math.isinf(high))
    least = math.ceil((noise.compute_mean_bound([1.0]) / distance) ** 2) if noise is not None and distance else 0
    return Aim(distance, gaps, is_registered, alpha, max(least, MIN_PAIRS))


def _log_share(share: float, *, above: bool) -> float:
    if above:
        return math.log1p(share)
    return -math.log1p(-share) if share < 1 else math.inf


def _scale(value: float, c: Comparison) -> float:
    """The value on the scale of d."""
    if c.kind == "difference" or math.isinf(value):
        return value
    return math.log(value) if value > 0 else -math.inf


def plan_seeds(c: Comparison, aim: Aim, suites: int) -> Design | None:
    """The fewest seeds a suite that decide the claim with 80 % power; None if more than MAX_SEEDS.

    suites: the number of suites that the claim is about.
    """
    spread = estimate_spread(c)
    if spread is None or not spread.is_split:
        return None
    designs = (Design(c.estimand, suites, seeds) for seeds in range(MIN_SEEDS, MAX_SEEDS + 1))
    return next((one for one in designs if _decides(one, spread, aim)), None)


def plan_suites(c: Comparison, aim: Aim, seeds: int) -> Design | None:
    """The fewest suites that decide a claim about workloads with 80 % power; None if more than MAX_SUITES.

    seeds: of every suite.
    """
    spread = estimate_spread(c)
    if spread is None or c.estimand != "workloads":
        return None
    least = max(len(c.works) + 1, MIN_SUITES_OF_WORKLOADS)
    designs = (Design("workloads", suites, max(seeds, MIN_SEEDS)) for suites in range(least, MAX_SUITES + 1))
    return next((one for one in designs if _decides(one, spread, aim)), None)


def _decides(design: Design, spread: Spread, aim: Aim) -> bool:
    # TOST needs no sign flip
    can_reach = aim.inside is not None or design.least_p <= aim.alpha
    enough = design.suites * design.seeds >= aim.least_pairs
    return enough and can_reach and aim.compute_power(*design.compute_error(spread)) >= POWER


def find_smallest_detectable(c: Comparison, claims: int) -> float | None:
    """The distance from the bound that the present runs show with 80 % power at the observed SD, on the scale of d.

    None where no effect can be shown: below six pairs or two seeds, or with too few units for the sign flip.
    """
    if c.estimate is None or not c.estimate.error or len(c.pairs) < MIN_PAIRS:
        return None
    error, df = c.estimate.error
    seeds = len({pair.seed for pair in c.pairs})
    if seeds < MIN_SEEDS or not error:
        return None
    alpha, design = ALPHA / claims, Design(c.estimand, c.n_suites, seeds)
    if design.least_p > alpha:
        return None
    one = Aim(0.0, None, is_registered=True, alpha=alpha)
    reach = 50 * error  # beyond it power is 1 for any degrees of freedom from 1 on at these levels, or never reached
    if replace(one, distance=reach).compute_power(error, df) < POWER:
        return None
    return float(optimize.brentq(lambda d: replace(one, distance=d).compute_power(error, df) - POWER, 0.0, reach))
