"""Secondary analyses of paired effects: rank correlation, the slope over another value, a random effect of suites."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import CONFIDENCE, scale_bounds

EXACT_UP_TO = 9  # points: 362,880 pairings. With more points p is approximated by t
MIN_POINTS = 5  # with fewer points no exact p reaches .05
LEAST_BETWEEN = 1e-4  # variance between suites / variance of d; if it is smaller, the optimizer stopped at 0
BOUNDARY: Literal["at the boundary"] = "at the boundary"
MIN_SUITES, MIN_SEEDS = 3, 3  # fewer cannot separate the variance between suites from that within


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho over n points and its two-sided p.

    exact: whether p is from all pairings, as up to EXACT_UP_TO points; otherwise it is approximated by t.
    """

    n: int
    rho: float
    p: float
    exact: bool


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's rank correlation; None below MIN_POINTS points, or if all values of x or all of y are equal."""
    n = len(x)
    if n < MIN_POINTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = stats.spearmanr(x, y)
    if n > EXACT_UP_TO:
        return Correlation(n, float(found.statistic), float(found.pvalue), False)
    ranks = stats.rankdata(y) - (n + 1) / 2
    # the ranks are fixed, so rho depends on the sum of products only, and grows with it
    test = stats.permutation_test(
        (stats.rankdata(x) - (n + 1) / 2,),
        lambda own, axis: np.sum(own * ranks, axis=axis),
        permutation_type="pairings",
        n_resamples=math.factorial(n),
        vectorized=True,
        batch=20_000,
    )
    return Correlation(n, float(found.statistic), float(test.pvalue), True)


@dataclass(frozen=True)
class Slope:
    """The slope of a straight line by least squares: center +- half_width is its 95 % interval, p two-sided."""

    center: float
    half_width: float
    p: float


def fit_slope(x: Sequence[float], y: Sequence[float]) -> Slope | None:
    """The slope of y over x; None below three points, or if all values of x are equal."""
    if len(x) < 3 or np.ptp(x) == 0:
        return None
    found = stats.linregress(x, y)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 2)
    return Slope(float(found.slope), float(quantile * found.stderr), float(found.pvalue))


@dataclass(frozen=True)
class SuiteModel:
    """The model d = mean + suite + noise, fitted by REML.

    center, low, high: the mean and its 95 % interval, on the comparison's scale. between_sd, within_sd: SDs of d (a
    logarithm for a ratio) between suites and within. df: degrees of freedom of the interval's t quantile, suites - 1.
    """

    center: float
    low: float
    high: float
    between_sd: float
    within_sd: float
    df: int


def suite_model(c: Comparison) -> SuiteModel | Literal["at the boundary"] | None:
    """Fit the model with a random suite effect.

    None below three suites of three seeds each, or if d has no spread. "at the boundary" if the spread between suites
    is estimated as 0, or if the fit does not converge. This does not mean that the true spread is 0.
    """
    counts = [one.n for one in c.suites.values()]
    if len(counts) < MIN_SUITES or min(counts) < MIN_SEEDS:
        return None
    from statsmodels.regression.mixed_linear_model import MixedLM  # takes a fifth of a second, and few reports need it

    d = np.array([pair.d for pair in c.pairs])
    scale = float(np.std(d))
    if scale == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a variance at 0; the fit is checked below
        fit = MixedLM(d / scale, np.ones(len(d)), [pair.suite_id for pair in c.pairs]).fit(reml=True)
        between, error = float(fit.cov_re[0, 0]), float(fit.bse_fe[0]) * scale
    if not fit.converged or not math.isfinite(error) or not between > LEAST_BETWEEN:
        return BOUNDARY
    center, df = float(fit.fe_params[0]) * scale, len(counts) - 1
    # with three suites an interval by the normal quantile covers 81 to 84 % instead of 95 % (simulated)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    low, high = scale_bounds((center - half, center + half), c.kind)
    assert low is not None
    assert high is not None
    return SuiteModel(
        math.exp(center) if c.kind == "ratio" else center,
        low,
        high,
        math.sqrt(between) * scale,
        math.sqrt(float(fit.scale)) * scale,
        df,
    )
