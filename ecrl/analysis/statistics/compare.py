"""Paired comparison of two variants: log ratios or differences per block, and what their mean says.

Definitions: docs/metrics.md, "Paired comparison".

Ratios are computed on the log scale and returned as ratios. Differences are not transformed.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from scipy import stats

from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS, Row
from ecrl.analysis.statistics.estimate import Estimand, Estimate, LeaveOneOut, choose_estimand
from ecrl.analysis.statistics.intervals import CONFIDENCE, Bounds, Kind, scale_bounds, scale_value, t_interval

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

    missing: (suite_id, seed, reason) of the blocks that are left out. works: the suites that were to be compared; those
    with the same work for both variants are one entry.
    """

    a: str
    b: str | None
    metric: str
    kind: Kind
    pairs: tuple[Pair, ...]
    missing: tuple[tuple[str, int | None, str], ...]
    works: tuple[frozenset[str], ...]

    @property
    def estimand(self) -> Estimand:
        """What the comparison is about. The registered suites decide it, so no result does."""
        return choose_estimand(len(self.works))

    @cached_property
    def estimate(self) -> Estimate | None:
        """The mean of d with its error; None without pairs."""
        return self.estimate_as(self.estimand)

    def estimate_as(self, estimand: Estimand) -> Estimate | None:
        """The same mean as a statement about something else: about these suites, or about workloads like them."""
        blocks: dict[str, dict[int | None, float]] = {}
        for pair in self.pairs:
            blocks.setdefault(pair.suite_id, {})[pair.seed] = pair.d
        return Estimate(estimand, blocks) if blocks else None

    @cached_property
    def overall(self) -> Effect | None:
        """The effect with its 95 % interval; None without pairs."""
        return None if self.estimate is None else self.to_effect(self.estimate)

    def to_effect(self, estimate: Estimate) -> Effect:
        """An estimate of this comparison on its scale."""
        bounds = scale_bounds(estimate.interval(), self.kind)
        return Effect(len(estimate.units), scale_value(estimate.center, self.kind), *bounds)

    @cached_property
    def suites(self) -> Mapping[str, Effect]:
        """The effect in each suite, with the t interval over its seeds."""
        found: dict[str, Effect] = {}
        for suite_id, own in self.estimate.blocks.items() if self.estimate else ():
            values = list(own.values())
            bounds = scale_bounds(t_interval(values, CONFIDENCE), self.kind)
            found[suite_id] = Effect(len(values), scale_value(math.fsum(values) / len(values), self.kind), *bounds)
        return found

    @property
    def n_suites(self) -> int:
        """The number of suites with at least one pair."""
        return len({pair.suite_id for pair in self.pairs})

    @property
    def suites_above(self) -> int:
        """The number of suites in which a is above b."""
        return sum(effect.center > (1 if self.kind == "ratio" else 0) for effect in self.suites.values())

    @property
    def sd(self) -> float | None:
        """The standard deviation of d over the units of `estimate`."""
        return None if self.estimate is None else self.estimate.sd

    @property
    def units(self) -> list[float]:
        """The independent values of d behind the interval: suite means, or blocks."""
        return [] if self.estimate is None else self.estimate.units

    @property
    def unit(self) -> str:
        """What `units` are: 'suites' or 'blocks'."""
        return "suites" if self.estimand == "workloads" else "blocks"

    @cached_property
    def p_value(self) -> float | None:
        """The two-sided p of "no effect"."""
        return self.p_against(0.0)

    def p_against(self, null: float) -> float | None:
        """The two-sided p of "the mean of d is `null`". null: on the scale of d."""
        return None if self.estimate is None else self.estimate.compute_p(null)

    @property
    def test(self) -> str:
        """The test behind the p: 'sign-flip' or 't'."""
        return "sign-flip" if self.estimate is None else self.estimate.test

    @property
    def is_exact(self) -> bool:
        """Whether the p is from all sign patterns."""
        return self.estimate is not None and self.estimate.is_exact

    @property
    def bca(self) -> Bounds:
        """The 95 % BCa bootstrap interval."""
        return (None, None) if self.estimate is None else scale_bounds(self.estimate.bca, self.kind)

    @property
    def median(self) -> float | None:
        """The median suite; of one suite, the median block."""
        return None if self.estimate is None else scale_value(self.estimate.median, self.kind)

    @cached_property
    def leave_one_out(self) -> LeaveOneOut | None:
        """The effect without each suite in turn, or without each block of the only suite; None below three of them."""
        found = None if self.estimate is None else self.estimate.leave_one_out
        if found is None:
            return None
        low, high, center = (scale_value(d, self.kind) for d in (found.low, found.high, found.center_without))
        return LeaveOneOut(low, high, found.without, center)

    def interval(self, confidence: float) -> Bounds:
        """The t interval at the given confidence, on the comparison's scale."""
        return (None, None) if self.estimate is None else scale_bounds(self.estimate.interval(confidence), self.kind)


def compare(rows: Sequence[Row], a: str, b: str | None, metric: str, kind: Kind, faults: Faults) -> Comparison:
    """Compare two variants block by block. A block in which one of them is at fault is in `missing` and not used.

    b is None: the metric of `a` is compared with 0. Blocks of suites that are the same work for both variants are
    averaged: they are one block.
    """
    pairs, missing, works = _pair_blocks(rows, a, b, metric, kind, faults)
    return Comparison(a, b, metric, kind, tuple(pairs), tuple(missing), works)


def restrict(c: Comparison, suites: Collection[str]) -> Comparison:
    """The same comparison over the given suites only."""
    pairs = [pair for pair in c.pairs if pair.suite_id in suites or not set(suites).isdisjoint(pair.alike)]
    missing = [one for one in c.missing if one[0] in suites]
    works = tuple(work for work in c.works if not work.isdisjoint(suites))
    return replace(c, pairs=tuple(pairs), missing=tuple(missing), works=works)


def _pair_blocks(
    rows: Sequence[Row], a: str, b: str | None, metric: str, kind: Kind, faults: Faults
) -> tuple[list[Pair], list[tuple[str, int | None, str]], tuple[frozenset[str], ...]]:
    compared = (a,) if b is None else (a, b)
    needed = dict.fromkeys((*compared, REFERENCE) if metric in REFERENCE_METRICS else compared)
    blocks: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        blocks.setdefault((row["suite_id"], row["seed"]), {})[row["variant"]] = row
    pairs: dict[tuple[Any, ...], list[Pair]] = {}
    missing: list[tuple[str, int | None, str]] = []
    works: dict[tuple[Any, ...], set[str]] = {}
    for (suite_id, seed), block in blocks.items():
        work = tuple(block[variant].get("uses", suite_id) for variant in compared if variant in block)
        if len(work) == len(compared):
            works.setdefault(work, set()).add(suite_id)
        values = [_number(block.get(variant, {}).get(metric)) for variant in compared]
        found = [faults[suite_id, variant, seed] for variant in needed if (suite_id, variant, seed) in faults]
        reason = "; ".join(found) or _find_pairing_fault(values, compared, metric, kind)
        if reason is not None:
            missing.append((suite_id, seed, reason))
            continue
        x, y = [*(value for value in values if value is not None), 0.0][:2]
        pair = Pair(suite_id, seed, x, y, math.log(x / y) if kind == "ratio" else x - y)
        pairs.setdefault(work, []).append(pair)
    merged = [one for own in pairs.values() for one in _merge_alike(own, kind)]
    places = {suite_id: place for place, (suite_id, _) in enumerate(blocks)}
    ordered = sorted(merged, key=lambda pair: places[pair.suite_id])
    return ordered, missing, tuple(map(frozenset, works.values()))


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
