"""Formats numbers for reports: significant digits, signed percents, intervals. An unknown number is a dash."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ecrl.analysis.statistics.compare import Comparison, Effect
from ecrl.analysis.statistics.estimate import Estimate
from ecrl.analysis.statistics.intervals import ALPHA, Kind

UNKNOWN = "–"
INTERVAL_DIGITS = 2  # significant digits of an interval's half width: more would be noise
NULLS: Mapping[Kind, float] = {"ratio": 1.0, "difference": 0.0}  # the value of "no effect"
_EQUAL = 1e-9  # what is closer together is equal but for rounding of floats


def number(value: float | None, digits: int = 4) -> str:
    """A number with significant digits: 12.35, 0.01234, 1,235. Whole numbers keep all digits."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞" if value < 0 else "not a number"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if value else "0"


def format_fixed(value: float | None, decimals: int = 2) -> str:
    """A number with a fixed number of decimals, for columns of a table."""
    return UNKNOWN if value is None else _fix(value, decimals)


def format_signed(value: float, decimals: int = 2) -> str:
    """A number with its sign and a fixed number of decimals: +3.65."""
    return _fix(value, decimals, "+")


def _fix(value: float, decimals: int, sign: str = "") -> str:
    # round() may give -0.0; adding 0 takes its sign away
    return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}" if math.isfinite(value) else number(value)


def percent(ratio: float | None, decimals: int = 2) -> str:
    """A ratio as a signed change: 1.0365 -> +3.65 %."""
    return UNKNOWN if ratio is None else f"{format_signed((ratio - 1) * 100, decimals)} %"


def spread(sd: float) -> str:
    """A spread on the log scale as a change of the ratio: 0.02 -> 2.02 %. From 50 % on, it is given as a factor."""
    factor = math.exp(sd)
    return f"{number((factor - 1) * 100, 3)} %" if factor < 1.5 else f"a factor of {number(factor, 3)}"


def share(value: float | None) -> str:
    """A share as percent: 0.912 -> 91.2 %."""
    return UNKNOWN if value is None else f"{value * 100:.1f} %"


def p_value(p: float | None) -> str:
    """A p-value with three significant digits; '< 0.0001' instead of 0."""
    if p is None:
        return UNKNOWN
    return "< 0.0001" if p < 0.0001 else f"{p:.3g}"


def p_equals(p: float | None) -> str:
    """A p-value with its name: 'p = 0.031' or 'p < 0.0001'."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def interval(low: float | None, high: float | None, null: float | None = None) -> str:
    """An interval: '[0.98, 1.05]'; a dash if a bound is not known. null: see `align`."""
    if low is None or high is None:
        return UNKNOWN
    return "[{}, {}]".format(*align((low, high), low, high, null))


def align(values: Sequence[float], low: float, high: float, null: float | None = None, sign: str = "") -> list[str]:
    """The values of an interval with one number of decimals: two significant digits of its half width.

    null: the value whose place inside or outside the interval is the finding. A bound beside it gets so many decimals
    that it does not read as the null: [1.0004, 1.0380].
    """
    half = (high - low) / 2
    if not _EQUAL * max(abs(low), abs(high)) < half < math.inf:
        return [number(value) for value in values]
    decimals = max(0, INTERVAL_DIGITS - 1 - math.floor(math.log10(half)))
    beside = [b for b in (low, high) if null is not None and not math.isclose(b, null, rel_tol=0, abs_tol=_EQUAL)]
    while any(round(bound, decimals) == null for bound in beside):
        decimals += 1
    return [_fix(value, decimals, sign) for value in values]


def disagreement(c: Comparison, threshold: float) -> str | None:
    """A sentence on the disagreement of the 95 % interval and the sign-flip test about the threshold.

    E.g. 'The 95 % interval [1.01, 1.09] excludes 1, the sign-flip test does not (p = 0.0781, unadjusted)', or the
    opposite. None if they agree or one of them is unknown.
    """
    # They may disagree: the interval counts suites and assumes a normal distribution; the test counts blocks and
    # assumes no distribution.
    null = threshold if c.kind == "difference" else math.log(threshold) if threshold > 0 else None
    p = None if null is None else c.p_against(null)
    if p is None or c.overall is None or c.overall.low is None or c.overall.high is None:
        return None
    beyond = c.overall.low > threshold or c.overall.high < threshold
    if beyond == (p <= ALPHA):
        return None
    does, test = ("excludes", "does not") if beyond else ("includes", "excludes it")
    bounds = f"{interval(c.overall.low, c.overall.high, threshold)} {does} {threshold:g}"
    return f"The 95 % interval {bounds}, the sign-flip test {test} ({p_equals(p)}, unadjusted)"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: '1 run', '3 runs'. many: the plural if it is not `one` plus 's'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def effect(value: Effect | None, null: float | None = None) -> str:
    """An effect with its interval if known: '1.036 [0.98, 1.05]'; a dash if the effect is not known."""
    if value is None:
        return UNKNOWN
    if value.low is None or value.high is None:
        return number(value.center)
    center, low, high = align((value.center, value.low, value.high), value.low, value.high, null)
    return f"{center} [{low}, {high}]"


def estimate(c: Comparison) -> str:
    """The mean of a comparison with its interval: '1.036 [0.980, 1.092]'; '1.04 (too few seeds)'."""
    if c.overall is None:
        return UNKNOWN
    return effect(c.overall, NULLS[c.kind]) if has_interval(c) else f"{number(c.overall.center, 3)} ({bounds(c)})"


def bounds(c: Comparison) -> str:
    """The interval of a comparison, or what is too few for one: 'too few suites', 'too few seeds'."""
    if c.overall is None:
        return UNKNOWN
    too_few = f"too few {'suites' if c.estimand == 'workloads' else 'seeds'}"
    return interval(c.overall.low, c.overall.high, NULLS[c.kind]) if has_interval(c) else too_few


def has_interval(c: Comparison) -> bool:
    """Whether a comparison has an interval to show."""
    return c.estimate is not None and has_spread(c.estimate)


def has_spread(found: Estimate) -> bool:
    """Whether an estimate has an interval to show. One degree of freedom gives none that says anything."""
    return found.error is not None and found.error[1] > 1


def percents(one: Effect) -> tuple[str, str]:
    """A ratio and its interval as signed changes: ('+3.6 %', '[-2.0 %, +9.2 %]'). The interval may be a dash."""
    if one.low is None or one.high is None:
        return percent(one.center), UNKNOWN
    center, low, high = ((value - 1) * 100 for value in (one.center, one.low, one.high))
    texts = align((center, low, high), low, high, 0.0, "+")
    return f"{texts[0]} %", f"[{texts[1]} %, {texts[2]} %]"


def basis(comparison: Comparison) -> str:
    """The observations behind an interval: '24 pairs in 8 suites'."""
    return f"{count(len(comparison.pairs), 'pair')} in {count(comparison.n_suites, 'suite')}"


def join_names(names: Iterable[str]) -> str:
    """A list in words: 'a', 'a and b', 'a, b and c'. Needs at least one name."""
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
