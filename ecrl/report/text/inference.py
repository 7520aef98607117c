"""What an interval and a test of a comparison say, in words."""

from ecrl.analysis.claims.power import find_smallest_detectable
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import ALPHA, MIN_PAIRS, count_sign_patterns
from ecrl.report.text.numbers import NULLS, align, bounds, has_interval, interval, number, spread


def excludes_null(low: float | None, high: float | None, null: float) -> bool:
    """Whether an interval lies on one side of the null."""
    return low is not None and high is not None and not low <= null <= high


def is_shown(c: Comparison) -> bool:
    """Whether interval and test both exclude "no effect", over enough pairs."""
    if c.overall is None or not has_interval(c) or len(c.pairs) < MIN_PAIRS:
        return False
    beyond = excludes_null(c.overall.low, c.overall.high, NULLS[c.kind])
    return beyond and c.p_value is not None and c.p_value <= ALPHA


def describe_test(c: Comparison) -> str:
    """What the p of a comparison is from: 'sign flips of whole suites, exact'."""
    if c.test == "t":
        return "the t test of the interval"
    what = "whole suites" if c.unit == "suites" else "blocks"
    n = count_sign_patterns(len(c.units))
    return f"sign flips of {what}, {'exact' if c.is_exact else f'sampled, {n:,} patterns'}"


def describe_interval(c: Comparison) -> str:
    """What is random in the interval of a comparison."""
    if c.estimand == "workloads":
        return "t intervals over suite means (suites random)"
    if c.estimand == "these suites":
        return "t intervals of the mean of these suites (seeds random, Satterthwaite)"
    return "t intervals over the blocks of the one suite (seeds random)"


def describe_least(c: Comparison) -> str | None:
    """What would have shown: 'with these runs one of 2.3 % or more would have shown (80 % power)'."""
    if len(c.pairs) < MIN_PAIRS:
        return f"{MIN_PAIRS} pairs are the least that can show one"
    least = find_smallest_detectable(c, 1)
    if least is None:
        return "with these runs no size of one could have been shown"
    size = spread(least) if c.kind == "ratio" else number(least, 2)
    return f"with these runs one of {size} or more would have shown (80 % power)"


def describe_left_out(c: Comparison) -> str | None:
    """'Median suite +1.2 %; without f7 the mean is -0.5 %, the largest change (one left out: -0.5 % to +1.4 %)'."""
    found, one = c.leave_one_out, c.overall
    if found is None or one is None or c.median is None:
        return None
    # the digits of the interval, if there is one
    low, high = (one.low, one.high) if one.low is not None and one.high is not None else (found.low, found.high)
    values = (c.median, found.center_without, found.low, found.high)
    median, without, least, most = align(values, low, high, NULLS[c.kind])
    unit = "suite" if c.n_suites > 1 else "block"
    return (
        f"The median {unit} has {median}. With one {unit} left out the mean lies between {least} and {most};"
        f" {found.without} moves it most, to {without}."
    )


def find_bca_disagreement(c: Comparison) -> str | None:
    """Where the t interval and BCa disagree about "no effect": '[0.99, 1.02] against BCa [1.001, 1.02]'."""
    low, high = c.bca
    if c.overall is None or not has_interval(c) or low is None or high is None:
        return None
    null = NULLS[c.kind]
    if excludes_null(c.overall.low, c.overall.high, null) == excludes_null(low, high, null):
        return None
    return f"t {bounds(c)} against BCa {interval(low, high, null)}"
