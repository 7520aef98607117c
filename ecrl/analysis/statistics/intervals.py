"""Intervals and p values of a mean of paired differences d, and intervals of proportions.

Definitions: docs/metrics.md, "Paired comparison".
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.80
MIN_PAIRS = 6  # with fewer pairs no exact two-sided p can reach ALPHA
EXACT_UP_TO = 16  # values of d: 65,536 sign patterns; for more values, patterns are sampled with a fixed seed
SAMPLED_VALUES = 4_000_000  # most patterns (or labellings) x values of a sample
MAX_SAMPLED_PATTERNS = 9_999
MIN_BOOTSTRAPPED = 3
BOOTSTRAP_RESAMPLES = 9_999
TIE = 1e-9  # relative; what differs less is equal but for the order of a sum

Kind = Literal["ratio", "difference"]
Bounds = tuple[float | None, float | None]
UNBOUNDED: Bounds = (None, None)


def scale_value(d: float, kind: Kind) -> float:
    """A mean of d on the scale of the comparison: a ratio is `exp` of it."""
    if kind == "difference":
        return d
    # suites that disagree may give a bound that overflows a double; it becomes infinity
    return math.exp(d) if d < math.log(np.finfo(float).max) else math.inf


def scale_bounds(bounds: Bounds, kind: Kind) -> Bounds:
    """Bounds of the mean of d on the scale of the comparison."""
    low, high = bounds
    return UNBOUNDED if low is None or high is None else (scale_value(low, kind), scale_value(high, kind))


def t_bounds(center: float, error: float, df: float, confidence: float) -> tuple[float, float]:
    """Student's t interval of a mean with this standard error and these degrees of freedom."""
    # without spread the interval is a point, also where the quantile is infinite
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error if error else 0.0
    return center - half, center + half


def t_interval(values: Sequence[float], confidence: float) -> Bounds:
    """Student's t interval of the mean; (None, None) below two values."""
    # not scipy's `ttest_1samp`: it warns about equal values, whose interval is a point
    n = len(values)
    if n < 2:
        return UNBOUNDED
    return t_bounds(math.fsum(values) / n, float(np.std(values, ddof=1)) / math.sqrt(n), n - 1, confidence)


def t_p(distance: float, error: float, df: float) -> float:
    """Two-sided p of Student's t test of "the mean is where it is", `distance` away from what was found."""
    if not error:
        return 0.0 if distance else 1.0
    return float(2 * stats.t.sf(abs(distance) / error, df))


def tost_p(center: float, error: float, df: float, low: float, high: float) -> float:
    """p of the two one-sided tests (TOST, Lakens 2017) that the mean lies in (low, high)."""
    if not error:  # without spread the t statistic is infinite, but p is known
        return 0.0 if low < center < high else 1.0
    return float(max(stats.t.sf((center - low) / error, df), stats.t.sf((high - center) / error, df)))


def predict_next(values: Sequence[float]) -> Bounds:
    """The 95 % prediction interval of one more value, drawn like these (normal); (None, None) below two."""
    n = len(values)
    if n < 2:
        return UNBOUNDED
    return t_bounds(math.fsum(values) / n, float(np.std(values, ddof=1)) * math.sqrt(1 + 1 / n), n - 1, CONFIDENCE)


def log_interval(values: Sequence[float]) -> Bounds:
    """95 % t interval of the geometric mean of positive values; (None, None) below two."""
    return scale_bounds(t_interval([math.log(value) for value in values], CONFIDENCE), "ratio")


def bca_interval(groups: Sequence[Sequence[float]]) -> Bounds:
    """95 % BCa bootstrap interval of the mean of the groups' means (Efron 1987) from a fixed seed.

    Values are drawn again inside their group. (None, None) if a group has fewer than three values, without spread, or
    if it is not finite.
    """
    if min(map(len, groups)) < MIN_BOOTSTRAPPED or not any(np.ptp(group) for group in groups):
        return UNBOUNDED
    found = stats.bootstrap(
        [np.asarray(group, dtype=float) for group in groups],
        lambda *drawn, axis: sum(np.mean(one, axis=axis) for one in drawn) / len(drawn),
        confidence_level=CONFIDENCE,
        method="BCa",
        n_resamples=min(BOOTSTRAP_RESAMPLES, SAMPLED_VALUES // sum(map(len, groups))),
        rng=np.random.default_rng(0),
        vectorized=True,
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else UNBOUNDED


def sign_flip_p(d: Sequence[float], null: float = 0.0) -> float | None:
    """Two-sided sign-flip permutation p of "the mean of d is `null`"; None without values.

    Exact up to EXACT_UP_TO values; for more, sign patterns are sampled with a fixed seed.
    """
    if not d:
        return None
    # not scipy's `permutation_test`: it takes half a second for 16 values
    shifted = [value - null for value in d]
    sums = _list_flipped_sums(shifted) if len(d) <= EXACT_UP_TO else _sample_flipped_sums(shifted)
    # sums that differ by less are equal but for the order in which they were added up
    tie = TIE * math.fsum(map(abs, shifted))
    as_extreme = int(np.count_nonzero(np.abs(sums) >= abs(math.fsum(shifted)) - tie))
    if len(d) <= EXACT_UP_TO:
        return as_extreme / len(sums)
    return (as_extreme + 1) / (len(sums) + 1)  # the pattern that was observed is one of those sampled


def _list_flipped_sums(d: Sequence[float]) -> npt.NDArray[np.float64]:
    """The sum of d for every pattern of signs."""
    sums = np.zeros(1)
    for value in d:
        sums = np.concatenate((sums + value, sums - value))
    return sums


def _sample_flipped_sums(d: Sequence[float]) -> npt.NDArray[np.float64]:
    """The sum of d for patterns of signs from a fixed seed."""
    flipped = np.random.default_rng(0).random((count_sign_patterns(len(d)), len(d)), dtype=np.float32) < 0.5
    values = np.asarray(d, dtype=float)
    sums: npt.NDArray[np.float64] = values.sum() - 2 * (flipped @ values)
    return sums


def count_sign_patterns(n: int) -> int:
    """The number of sign patterns that `sign_flip_p` tries for n values."""
    return 2**n if n <= EXACT_UP_TO else min(MAX_SAMPLED_PATTERNS, SAMPLED_VALUES // n)


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's exact 95 % interval of a proportion."""
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="beta")
    # the beta quantile is NaN for 0 and for n successes, where the bound is known
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Brown, Cai & DasGupta 2001 recommend it for small n)."""
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))
