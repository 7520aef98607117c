"""Two secondary looks at paired effects: whether one explains another, and what a random suite effect changes."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ecrl.analysis.compare import CONFIDENCE, Comparison, scaled_pair

EXACT_UP_TO = 9  # 362,880 pairings; beyond, the t approximation of the p
MIN_POINTS = 5  # below, no exact p reaches .05
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
    """d = mean + suite + noise, by REML: mean with its 95 % Wald interval on the comparison's scale, and the SDs of d
    (of its logarithm for a ratio) between suites and within."""

    center: float
    low: float
    high: float
    between_sd: float
    within_sd: float


def suite_model(c: Comparison) -> SuiteModel | None:
    """The model with a random suite effect; None below three suites of three seeds each, or where the fit does not
    converge (no spread between suites, say)."""
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
        wald = [float(value) * scale for value in fit.conf_int(alpha=1 - CONFIDENCE)[0]]
    if not fit.converged or not all(map(math.isfinite, wald)):
        return None
    low, high = scaled_pair((wald[0], wald[1]), c.kind)
    assert low is not None
    assert high is not None
    center = float(fit.fe_params[0]) * scale
    return SuiteModel(
        math.exp(center) if c.kind == "ratio" else center,
        low,
        high,
        math.sqrt(max(float(fit.cov_re[0, 0]), 0.0)) * scale,
        math.sqrt(float(fit.scale)) * scale,
    )
