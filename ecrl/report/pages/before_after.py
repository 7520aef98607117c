"""Before and after as tables, sentences and one JSON document."""

from collections.abc import Mapping, Sequence
from typing import Any

from ecrl.analysis.campaign.tables import geometric_mean, mean
from ecrl.analysis.statistics.compare import Comparison, Effect
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.report.text.inference import describe_least, describe_test, is_shown
from ecrl.report.text.numbers import UNKNOWN, basis, count, effect, estimate, number, p_equals, percents

SCHEMA = 1


def tables(changes: Mapping[str, Comparison], axes: Mapping[str, str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of each variant: a row per suite, then the mean over suites.

    axes: for each suite id the values of `[axes]` as text; the id does not always show them.
    """
    return [(f"{variant}: {c.metric}", _header(c), _rows(c, axes)) for variant, c in changes.items()]


def _header(c: Comparison) -> list[str]:
    return ["suite", str(c.b), c.a, "change", "95 % CI", "pairs"]


def _rows(c: Comparison, axes: Mapping[str, str]) -> list[list[str]]:
    rows = [
        [_label(suite_id, axes), *map(number, _levels(c, suite_id)), *_change(c, one), str(one.n)]
        for suite_id, one in sorted(c.suites.items())
    ]
    if c.overall is not None and c.n_suites > 1:
        rows.append(["mean", "", "", *_change(c, c.overall), str(len(c.pairs))])
    return rows


def _label(suite_id: str, axes: Mapping[str, str]) -> str:
    return f"{suite_id} ({axes[suite_id]})" if axes.get(suite_id) else suite_id


def _levels(c: Comparison, suite_id: str) -> tuple[float | None, float | None]:
    """The metric before and after: geometric means if the change is a ratio."""
    own = [pair for pair in c.pairs if pair.suite_id == suite_id]
    average = geometric_mean if c.kind == "ratio" else mean
    return average([pair.b for pair in own]), average([pair.a for pair in own])


def _change(c: Comparison, one: Effect) -> tuple[str, str]:
    if c.kind == "ratio":
        return percents(one)
    center, _, bounds = effect(one, 0.0).partition(" ")
    return center, bounds or UNKNOWN


def sentences(before: str, after: str, changes: Mapping[str, Comparison], differing: Sequence[str]) -> list[str]:
    """Sentences with what changed, and what may have caused it."""
    found = []
    for variant, c in changes.items():
        if c.overall is None:
            found.append(f"{variant}: no seed of a suite stands in both.")
            continue
        if len(c.pairs) < MIN_PAIRS:
            verdict = f"a direction, not a finding: {MIN_PAIRS} pairs are the least that could show a change"
        elif is_shown(c):
            verdict = "a difference larger than its standard error allows for chance, between two sessions"
        else:
            verdict = f"no change is shown; {describe_least(c)}"
        sign = "/" if c.kind == "ratio" else "-"
        p = f"{p_equals(c.p_value)} ({describe_test(c)})"
        found.append(f"{variant}: {after} {sign} {before} = {estimate(c)}, {basis(c)}, {p}: {verdict}.")
        if c.missing:
            reasons = "; ".join(sorted({reason for _, _, reason in c.missing})[:3])
            found.append(f"{variant}: {count(len(c.missing), 'block')} left out ({reasons}).")
    found += [f"They differ: {text}." for text in differing] or ["Machine, versions and matrix are recorded as equal."]
    said = "Each ran in a session of its own: what the machine did differently counts as change as well"
    found.append(f"{said}, so this is no verdict.")
    return found


def document(
    before: str, after: str, metric: str, changes: Mapping[str, Comparison], differing: Sequence[str]
) -> dict[str, Any]:
    """The comparison as one JSON document. A ratio is after / before, a difference is after - before."""
    return {
        "schema": SCHEMA,
        "before": before,
        "after": after,
        "metric": metric,
        "differences": list(differing),
        "variants": {variant: _variant(c) for variant, c in changes.items()},
    }


def _variant(c: Comparison) -> dict[str, Any]:
    return {
        "kind": c.kind,
        "overall": None if c.overall is None else _numbers(c.overall) | {"p": c.p_value, "n_pairs": len(c.pairs)},
        "suites": {suite_id: _numbers(one) for suite_id, one in sorted(c.suites.items())},
        "missing": [{"suite_id": suite, "seed": seed, "reason": reason} for suite, seed, reason in c.missing],
    }


def _numbers(one: Effect) -> dict[str, Any]:
    return {"center": one.center, "low": one.low, "high": one.high, "n": one.n}
