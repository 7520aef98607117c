"""Whether the effect depends on a factor, and whether it hangs on one suite (docs/metrics.md, "Interaction").

Definitions: the units are suites, their values the means of `d` over seeds.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import ALPHA, CONFIDENCE, SAMPLED_VALUES, TIE, predict_next, t_interval
from ecrl.analysis.statistics.pairwise import adjust_holm

MAX_LABELLINGS = 9_999  # if there are more, that many are sampled with a fixed seed
MIN_OTHERS = 3  # suites that say where another one was to be expected


@dataclass(frozen=True)
class Interaction:
    """The effect by the values of one factor.

    means: the mean of d over the suites with a value. p: of "the effect is the same for every value"; p_adjusted: after
    Holm over the factors. exact: whether p is from all labellings of the suites.
    """

    factor: str
    means: Mapping[Any, float]
    p: float
    p_adjusted: float
    exact: bool

    @property
    def is_shown(self) -> bool:
        """Whether equal effects are ruled out."""
        return self.p_adjusted <= ALPHA

    @property
    def has_both_signs(self) -> bool:
        """Whether the effect is above 0 for one value and below for another."""
        return min(self.means.values()) < 0 < max(self.means.values())


@dataclass(frozen=True)
class Leverage:
    """The suite whose absence moves the mean of d most. without: the mean of the others, low, high: its interval."""

    suite_id: str
    center: float
    without: float
    low: float
    high: float


def get_suite_means(c: Comparison) -> dict[str, float]:
    """The mean of d of every suite."""
    return {suite: math.log(one.center) if c.kind == "ratio" else one.center for suite, one in c.suites.items()}


def find_interactions(
    c: Comparison, suites: Mapping[str, Mapping[str, Any]], factors: Sequence[str]
) -> list[Interaction]:
    """One for every factor with several values of which one has several suites, in the order of `factors`."""
    means = get_suite_means(c)
    found = []
    for factor in factors:
        groups: dict[Any, list[float]] = {}
        for suite_id, d in means.items():
            groups.setdefault(suites[suite_id].get(factor), []).append(d)
        if 1 < len(groups) < len(means):
            p, exact = compute_equal_effects_p(list(groups.values()))
            found.append(Interaction(factor, {v: math.fsum(ds) / len(ds) for v, ds in groups.items()}, p, p, exact))
    adjusted = adjust_holm(one.p for one in found)
    return [replace(one, p_adjusted=p) for one, p in zip(found, adjusted, strict=True) if p is not None]


def compute_equal_effects_p(groups: Sequence[Sequence[float]]) -> tuple[float, bool]:
    """The permutation p of "all groups have one mean", and whether it is from all labellings.

    The statistic is F; the labels are permuted.
    """
    # not scipy's `permutation_test`: it takes no group of one
    sizes = [len(group) for group in groups]
    values = np.array([d for group in groups for d in group])
    values -= values.mean()  # as squares of large equal numbers lose the digits that differ
    n = len(values)
    labellings = math.factorial(n) // math.prod(map(math.factorial, sizes))
    exact = labellings <= MAX_LABELLINGS
    places = np.arange(n)
    if exact:
        orders = np.array(list(_list_labellings(tuple(places), sizes)))
    else:
        orders = np.tile(places, (min(MAX_LABELLINGS, SAMPLED_VALUES // n), 1))
        np.random.default_rng(0).permuted(orders, axis=1, out=orders)
    found, observed = _sum_between(values[orders], sizes), float(_sum_between(values[None], sizes)[0])
    as_extreme = int(np.sum(found >= observed * (1 - TIE)))
    # the labelling that was observed is one of those sampled
    return (as_extreme / labellings, True) if exact else ((as_extreme + 1) / (len(orders) + 1), False)


def _list_labellings(places: tuple[int, ...], sizes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every way to deal the places into groups of these sizes, as one sequence."""
    if len(sizes) == 1:
        yield places
        return
    for own in itertools.combinations(places, sizes[0]):
        rest = tuple(place for place in places if place not in own)
        yield from (own + other for other in _list_labellings(rest, sizes[1:]))


def _sum_between(values: npt.NDArray[np.float64], sizes: Sequence[int]) -> npt.NDArray[np.float64]:
    """The sum of squares between groups. values: one labelling a row, group after group."""
    # The total sum of squares is the same for every labelling, so F grows with the sum between groups.
    starts = np.cumsum([0, *sizes[:-1]])
    sums: npt.NDArray[np.float64] = np.add.reduceat(values, starts, axis=1)
    between: npt.NDArray[np.float64] = (sums**2 / np.array(sizes)).sum(axis=1)
    return between


def find_leverage(c: Comparison) -> Leverage | None:
    """The suite without which the effect has the other sign or at most half its size; None if there is none.

    The suite must also lie outside the 95 % prediction interval of the others: around no effect any suite turns a sign.
    """
    means, left = get_suite_means(c), c.leave_one_out
    n = len(means)
    if n <= MIN_OTHERS or left is None:
        return None
    suite_id, total = left.without, math.fsum(means.values())
    others = [d for suite, d in means.items() if suite != suite_id]
    center, without = total / n, math.fsum(others) / len(others)
    is_same = without * center > 0 and abs(without) > abs(center) / 2
    (low, high), (least, most) = t_interval(others, CONFIDENCE), predict_next(others)
    assert low is not None
    assert high is not None
    assert least is not None
    assert most is not None
    if is_same or least <= means[suite_id] <= most:
        return None
    return Leverage(suite_id, center, without, low, high)
