"""The number of runs that would decide a claim: its power at the observed spread, in the units of its interval."""

import math

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower

from ecrl.analysis.claims.claims import ClaimResult
from ecrl.analysis.statistics.compare import ALPHA, MIN_PAIRS, POWER, Comparison, Kind

MAX_SEEDS = 40  # of a suite; if more were needed, another design is the better advice
MAX_SUITES = 200


def compute_within_sd(c: Comparison) -> float | None:
    """SD of d over the seeds of a suite, pooled over suites; None if no suite has two seeds."""
    by_suite: dict[str, list[float]] = {}
    for pair in c.pairs:
        by_suite.setdefault(pair.suite_id, []).append(pair.d)
    free = sum(len(own) - 1 for own in by_suite.values())
    squares = math.fsum((d - math.fsum(own) / len(own)) ** 2 for own in by_suite.values() for d in own)
    return math.sqrt(squares / free) if free else None


def compute_between_sd(c: Comparison) -> float | None:
    """SD of d between suites. More seeds do not reduce it.

    None if it cannot be separated from the SD within suites: no suite has two seeds, or the units are blocks.
    """
    within = compute_within_sd(c)
    if within is None or c.sd is None or c.unit != "suites":
        return None
    noise = within**2 * float(np.mean([1 / one.n for one in c.suites.values()]))
    return math.sqrt(max(0.0, c.sd**2 - noise))


def seeds_needed(judged: ClaimResult, suites: int) -> int | None:
    """Seeds per suite with which the claim is decided with 80 % power at alpha .05; None if more than MAX_SEEDS.

    If every suite has one seed, the result is a lower bound.
    """
    c = judged.comparison
    assert c is not None
    within, between = compute_within_sd(c), compute_between_sd(c)
    for seeds in range(max(1, math.ceil(MIN_PAIRS / suites)), MAX_SEEDS + 1):
        if c.unit == "blocks":
            sd, n = c.sd, suites * seeds
        # With one seed per suite the spread between suites cannot be separated from the spread within. All of it counts
        # as within, and more seeds reduce that.
        elif within is None or between is None:
            sd, n = None if c.sd is None else c.sd / math.sqrt(seeds), suites
        else:
            sd, n = math.sqrt(between**2 + within**2 / seeds), suites
        if decision_power(judged, sd, n) >= POWER:
            return seeds
    return None


def suites_needed(judged: ClaimResult) -> int | None:
    """Suites, with as many seeds as now, with which the claim is decided with 80 % power at alpha .05.

    None if the spread between suites is not known, or if more than MAX_SUITES are needed.
    """
    c = judged.comparison
    if c is None or c.unit != "suites":
        return None
    more = range(c.n_suites + 1, MAX_SUITES + 1)
    for n in more:
        if n * len(c.pairs) / c.n_suites >= MIN_PAIRS and decision_power(judged, c.sd, n) >= POWER:
            return n
    return None


def decision_power(judged: ClaimResult, sd: float | None, n: int) -> float:
    """Probability that n units with this SD of d decide the claim, if the observed center is the true one.

    Claims with a threshold, and `within` claims whose center lies outside the margin: the probability that a two-sided
    t test distinguishes the center from the claimed bound (not from "no effect").
    `within` claims whose center lies inside the margin: the probability that both one-sided tests of TOST reject, by
    the bound P(A) + P(B) - 1. The bound is exact except for samples in which both tests fail.
    sd None (one observation) counts as 0.
    """
    c = judged.comparison
    assert c is not None
    assert c.overall is not None
    low, high = (_scale(bound, c.kind) for bound in judged.allowed)
    center = _scale(c.overall.center, c.kind)
    inside = low < center < high
    if not sd:
        return 1.0 if center not in (low, high) else 0.0
    if n < 2:
        return 0.0
    if inside and math.isfinite(low) and math.isfinite(high):
        critical, error = float(stats.t.ppf(1 - ALPHA, n - 1)), sd / math.sqrt(n)
        above, below = (float(stats.nct.sf(critical, n - 1, gap / error)) for gap in (center - low, high - center))
        return max(0.0, above + below - 1)
    distance = min(abs(center - bound) for bound in (low, high) if math.isfinite(bound))
    return float(TTestPower().power(distance / sd, n, ALPHA, alternative="two-sided"))


def _scale(value: float, kind: Kind) -> float:
    """The value on the scale of d."""
    if kind == "difference" or math.isinf(value):
        return value
    return math.log(value) if value > 0 else -math.inf
