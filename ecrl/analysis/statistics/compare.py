"""Paired comparison of two variants: log ratios per block, t intervals, sign-flip p.

Definitions: docs/metrics.md, "Paired comparison".

Ratios are computed on the log scale and returned as ratios. Differences are not transformed.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_paired

from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS, Row

CONFIDENCE = 0.95
ALPHA = 0.05
POWER = 0.80
MIN_PAIRS = 6  # with fewer pairs no exact two-sided p can reach ALPHA
EXACT_UP_TO_PAIRS = 16  # 65,536 sign patterns; for more pairs, patterns are sampled with a fixed seed
SAMPLED_VALUES = 4_000_000  # most patterns x pairs of a sample: 0.2 s
MAX_SAMPLED_PATTERNS = 9_999
MIN_BOOTSTRAPPED = 3
BOOTSTRAP_RESAMPLES = 9_999
BOOTSTRAP_CHUNK_VALUES = 2_000_000  # most patterns x pairs in memory at a time, in the permutation test

Kind = Literal["ratio", "difference"]
BlockKey = tuple[str, int]
# (suite_id, variant, seed) -> why no comparison may use the run
Faults = Mapping[tuple[str, str, int], str]


@dataclass(frozen=True)
class Pair:
    """One block: the metric of both variants, and d: ln(a/b) for a ratio, a - b for a difference.

    alike: the other suites with the same work, whose blocks are averaged into this one.
    """

    suite_id: str
    seed: int | None
    a: float
    b: float
    d: float
    alike: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effect:
    """A mean of d over n values and its 95 % interval, on the comparison's scale. None: not computable."""

    n: int
    center: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """`metric` of variant a against variant b, over the blocks that have both. b is None: against 0.

    missing: (suite_id, seed, reason) of the blocks that are left out. suites: the effect in each suite.
    unit: the observations of the interval, 'suites' or 'blocks'. overall: the effect over all units.
    sd: the standard deviation of d over the units.
    """

    a: str
    b: str | None
    metric: str
    kind: Kind
    pairs: tuple[Pair, ...]
    missing: tuple[tuple[str, int | None, str], ...]
    suites: Mapping[str, Effect]
    unit: str
    overall: Effect | None
    sd: float | None

    @cached_property
    def p_value(self) -> float | None:
        """The sign-flip p of "no effect" (see `sign_flip_p`)."""
        return self.p_against(0.0)

    @property
    def n_suites(self) -> int:
        """The number of suites with at least one pair."""
        return len(self.suites)

    @property
    def units(self) -> list[float]:
        """The values of d that the interval is computed from."""
        return _suite_means(self.pairs) if self.unit == "suites" else [pair.d for pair in self.pairs]

    def p_against(self, null: float) -> float | None:
        """The sign-flip p of "the mean of d is `null`" (see `sign_flip_p`). null: on the scale of d."""
        return sign_flip_p([pair.d for pair in self.pairs], _weights(self.pairs), null)

    @property
    def suites_above(self) -> int:
        """The number of suites in which a is above b."""
        return sum(effect.center > (1 if self.kind == "ratio" else 0) for effect in self.suites.values())

    @cached_property
    def bca(self) -> tuple[float | None, float | None]:
        """The 95 % BCa bootstrap interval over the units. It decides nothing (docs/metrics.md, "Paired comparison")."""
        # at small n it covers less than 95 %
        return scale_bounds(bca_interval(self.units), self.kind)

    def interval(self, confidence: float) -> tuple[float | None, float | None]:
        """The t interval at the given confidence, on the comparison's scale."""
        return scale_bounds(t_interval(self.units, confidence), self.kind)


def compare(rows: Sequence[Row], a: str, b: str | None, metric: str, kind: Kind, faults: Faults) -> Comparison:
    """Compare two variants block by block. A block in which one of them is at fault is in `missing` and not used.

    b is None: the metric of `a` is compared with 0. Blocks of suites that are the same work for both variants are
    averaged: they are one block.
    """
    pairs, missing = _pair_blocks(rows, a, b, metric, kind, faults)
    return _summarize(a, b, metric, kind, pairs, missing)


def restrict(c: Comparison, suites: Collection[str]) -> Comparison:
    """The same comparison over the given suites only."""
    pairs = [pair for pair in c.pairs if pair.suite_id in suites or not set(suites).isdisjoint(pair.alike)]
    return _summarize(c.a, c.b, c.metric, c.kind, pairs, [one for one in c.missing if one[0] in suites])


def _summarize(
    a: str,
    b: str | None,
    metric: str,
    kind: Kind,
    pairs: Sequence[Pair],
    missing: Sequence[tuple[str, int | None, str]],
) -> Comparison:
    by_suite: dict[str, list[float]] = {}
    for pair in pairs:
        by_suite.setdefault(pair.suite_id, []).append(pair.d)
    unit = "suites" if len(by_suite) > 1 else "blocks"
    units = _suite_means(pairs) if unit == "suites" else [pair.d for pair in pairs]
    return Comparison(
        a,
        b,
        metric,
        kind,
        tuple(pairs),
        tuple(missing),
        {suite: _effect(values, kind) for suite, values in by_suite.items()},
        unit,
        _effect(units, kind) if units else None,
        float(np.std(units, ddof=1)) if len(units) > 1 else None,
    )


def _pair_blocks(
    rows: Sequence[Row], a: str, b: str | None, metric: str, kind: Kind, faults: Faults
) -> tuple[list[Pair], list[tuple[str, int | None, str]]]:
    compared = (a,) if b is None else (a, b)
    needed = dict.fromkeys((*compared, REFERENCE) if metric in REFERENCE_METRICS else compared)
    blocks: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        blocks.setdefault((row["suite_id"], row["seed"]), {})[row["variant"]] = row
    pairs: dict[tuple[Any, ...], list[Pair]] = {}
    missing: list[tuple[str, int | None, str]] = []
    for (suite_id, seed), block in blocks.items():
        values = [_number(block.get(variant, {}).get(metric)) for variant in compared]
        found = [faults[suite_id, variant, seed] for variant in needed if (suite_id, variant, seed) in faults]
        reason = "; ".join(found) or _find_pairing_fault(values, compared, metric, kind)
        if reason is not None:
            missing.append((suite_id, seed, reason))
            continue
        x, y = [*(value for value in values if value is not None), 0.0][:2]
        work = tuple(block[variant].get("uses", suite_id) for variant in compared)
        pair = Pair(suite_id, seed, x, y, math.log(x / y) if kind == "ratio" else x - y)
        pairs.setdefault(work, []).append(pair)
    merged = [one for own in pairs.values() for one in _merge_alike(own, kind)]
    places = {suite_id: place for place, (suite_id, _) in enumerate(blocks)}
    return sorted(merged, key=lambda pair: places[pair.suite_id]), missing


def _merge_alike(pairs: Sequence[Pair], kind: Kind) -> list[Pair]:
    """One pair for each seed. pairs: of suites with the same work."""
    suites = sorted({pair.suite_id for pair in pairs})
    if len(suites) == 1:
        return list(pairs)
    by_seed: dict[int | None, list[Pair]] = {}
    for pair in pairs:
        by_seed.setdefault(pair.seed, []).append(pair)
    found = []
    for seed, own in by_seed.items():
        a, b, d = ([getattr(pair, name) for pair in own] for name in ("a", "b", "d"))
        x, y = (_mean_of(values, kind) for values in (a, b))
        found.append(Pair(suites[0], seed, x, y, math.fsum(d) / len(d), tuple(suites[1:])))
    return found


def _mean_of(values: Sequence[float], kind: Kind) -> float:
    return float(stats.gmean(values)) if kind == "ratio" else math.fsum(values) / len(values)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _find_pairing_fault(values: Sequence[float | None], variants: Sequence[str], metric: str, kind: Kind) -> str | None:
    absent = [variant for variant, value in zip(variants, values, strict=True) if value is None]
    if absent:
        return f"{metric} of {' and '.join(absent)} is not known"
    zero = [
        v for v, value in zip(variants, values, strict=True) if kind == "ratio" and value is not None and value <= 0
    ]
    return f"{metric} of {' and '.join(zero)} is not above 0, so there is no ratio" if zero else None


def _suite_means(pairs: Sequence[Pair]) -> list[float]:
    by_suite: dict[str, list[float]] = {}
    for pair in pairs:
        by_suite.setdefault(pair.suite_id, []).append(pair.d)
    return [math.fsum(values) / len(values) for values in by_suite.values()]


def _weights(pairs: Sequence[Pair]) -> list[float]:
    """The weights of the pairs. All suites have the same weight, whatever their numbers of seeds."""
    counts: dict[str, int] = {}
    for pair in pairs:
        counts[pair.suite_id] = counts.get(pair.suite_id, 0) + 1
    return [1 / (len(counts) * counts[pair.suite_id]) for pair in pairs]


def _effect(values: Sequence[float], kind: Kind) -> Effect:
    low, high = scale_bounds(t_interval(values, CONFIDENCE), kind)
    center = math.fsum(values) / len(values)
    return Effect(len(values), math.exp(center) if kind == "ratio" else center, low, high)


def scale_bounds(bounds: tuple[float | None, float | None], kind: Kind) -> tuple[float | None, float | None]:
    """Bounds of the mean of d on the scale of the comparison."""
    low, high = bounds
    if low is None or high is None or kind == "difference":
        return low, high
    # two suites that disagree may give a bound that overflows a double; it becomes infinity
    return math.exp(low), math.exp(high) if high < math.log(np.finfo(float).max) else math.inf


def t_interval(values: Sequence[float], confidence: float) -> tuple[float | None, float | None]:
    """Student's t interval of the mean; (None, None) below two values."""
    # not scipy's `ttest_1samp`: it warns about equal values, whose interval is a point
    n = len(values)
    if n < 2:
        return None, None
    center = math.fsum(values) / n
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return center - half, center + half


def bca_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % BCa bootstrap interval of the mean (Efron 1987) from a fixed seed.

    (None, None) below three values, without spread, or if it is not finite.
    """
    if len(values) < MIN_BOOTSTRAPPED or np.ptp(values) == 0:
        return None, None
    found = stats.bootstrap(
        (np.asarray(values, dtype=float),),
        np.mean,
        confidence_level=CONFIDENCE,
        method="BCa",
        n_resamples=min(BOOTSTRAP_RESAMPLES, SAMPLED_VALUES // len(values)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    low, high = float(found.low), float(found.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else (None, None)


def log_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % t interval of the geometric mean of positive values; (None, None) below two."""
    return scale_bounds(t_interval([math.log(value) for value in values], CONFIDENCE), "ratio")


def sign_flip_p(d: Sequence[float], weights: Sequence[float] | None = None, null: float = 0.0) -> float | None:
    """Two-sided sign-flip permutation p of "the weighted mean of d is `null`"; None without pairs.

    Exact up to EXACT_UP_TO_PAIRS pairs; for more pairs, sign patterns are sampled with a fixed seed.
    """
    if not d:
        return None
    if len(d) == 1:
        return 1.0  # both sign patterns are equally extreme
    scale = weights or [1 / len(d)] * len(d)
    data = np.array([(value - null) * weight for value, weight in zip(d, scale, strict=True)])
    exact = len(d) <= EXACT_UP_TO_PAIRS
    result = stats.permutation_test(
        (data,),
        np.sum,
        permutation_type="samples",
        n_resamples=2 ** len(d) if exact else min(MAX_SAMPLED_PATTERNS, SAMPLED_VALUES // len(d)),
        vectorized=True,
        batch=max(1, BOOTSTRAP_CHUNK_VALUES // len(d)),
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def tost_p(values: Sequence[float], low: float, high: float) -> float | None:
    """p of the two one-sided tests (TOST, Lakens 2017) that the mean lies in (low, high); None below two values."""
    if len(values) < 2:
        return None
    if np.ptp(values) == 0:  # without spread the t statistic is infinite, but p is known
        return 0.0 if low < values[0] < high else 1.0
    x = np.asarray(values, dtype=float)
    return float(ttost_paired(x, np.zeros_like(x), low, high)[0])


def clopper_pearson(successes: int, n: int) -> tuple[float, float]:
    """Clopper and Pearson's exact 95 % interval of a proportion."""
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="beta")
    # the beta quantile is NaN for 0 and for n successes, where the bound is known
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a proportion (Brown, Cai & DasGupta 2001 recommend it for small n)."""
    low, high = proportion_confint(successes, n, alpha=1 - CONFIDENCE, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def smallest_detectable(sd: float | None, n: int) -> float | None:
    """The smallest mean of d that a paired t test over n units shows with 80 % power at alpha .05.

    None without a positive SD, or below two units.
    """
    if sd is None or sd == 0 or n < 2:
        return None
    return sd * float(TTestPower().solve_power(nobs=n, alpha=ALPHA, power=POWER, alternative="two-sided"))
