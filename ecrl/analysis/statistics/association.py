"""Two secondary looks at paired effects: whether one explains another, and what a random suite effect changes."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from ecrl.analysis.statistics.compare import CONFIDENCE, Comparison, scale_bounds

EXACT_UP_TO = 9  # 362,880 pairings; beyond, the t approximation of the p
MIN_POINTS = 5  # below, no exact p reaches .05
LEAST_BETWEEN = 1e-4  # variance between suites, of the variance of d; below, the optimizer stopped at 0
BOUNDARY: Literal["at the boundary"] = "at the boundary"
MIN_SUITES, MIN_SEEDS = 3, 3  # from where on a variance between suites can be told from one within


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho over n points with its two-sided p: exact (all pairings) up to EXACT_UP_TO points."""

    n: int
    rho: float
    p: float
    exact: bool


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Spearman's rank correlation; None below MIN_POINTS points or where all of x or of y are equal."""
    n = len(x)
    if n < MIN_POINTS or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    found = stats.spearmanr(x, y)
    if n > EXACT_UP_TO:
        return Correlation(n, float(found.statistic), float(found.pvalue), False)
    ranks = stats.rankdata(y) - (n + 1) / 2
    # with ranks fixed, rho grows with the sum of products alone
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
class SuiteModel:
    """d = mean + suite + noise, by REML: mean with its 95 % interval on the comparison's scale, and the SDs of d (of
    its logarithm for a ratio) between suites and within. df: of the t quantile, suites - 1; with three suites the
    normal one covers 81 to 84 % instead of 95 % (simulated)."""

    center: float
    low: float
    high: float
    between_sd: float
    within_sd: float
    df: int


def suite_model(c: Comparison) -> SuiteModel | Literal["at the boundary"] | None:
    """The model with a random suite effect. None below three suites of three seeds each or without any spread; "at the
    boundary" where the spread between suites comes out as 0 or the fit does not converge: there is nothing to estimate
    it from, which is not the same as a spread of 0."""
    counts = [one.n for one in c.suites.values()]
    if len(counts) < MIN_SUITES or min(counts) < MIN_SEEDS:
        return None
    from statsmodels.regression.mixed_linear_model import MixedLM  # a fifth of a second that few reports need

    d = np.array([pair.d for pair in c.pairs])
    scale = float(np.std(d))
    if scale == 0:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a variance at 0; whether the fit is one is asked below
        fit = MixedLM(d / scale, np.ones(len(d)), [pair.suite_id for pair in c.pairs]).fit(reml=True)
        between, error = float(fit.cov_re[0, 0]), float(fit.bse_fe[0]) * scale
    if not fit.converged or not math.isfinite(error) or not between > LEAST_BETWEEN:
        return BOUNDARY
    center, df = float(fit.fe_params[0]) * scale, len(counts) - 1
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
