"""Before and after as tables, sentences and one JSON document."""

from collections.abc import Mapping, Sequence
from typing import Any

from ecrl.analysis.campaign.tables import geometric_mean, mean
from ecrl.analysis.claims.before_after import Change
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison, Effect
from ecrl.analysis.statistics.intervals import ALPHA, MIN_PAIRS
from ecrl.report.text.inference import describe_least, describe_test, is_shown
from ecrl.report.text.numbers import UNKNOWN, basis, count, effect, estimate, number, p_equals, percents

SCHEMA = 1
# What a change reads. Without a reference in both, it may be the machine's.
NO_VERDICT, FEW, CHANGED, NOT_SHOWN = "no verdict", "a direction", "changed", "no change shown"


def judge(change: Change) -> str:
    """The verdict on a change: of the part that its reference does not share, by interval and Holm-adjusted p."""
    net = change.net
    if net is None or net.overall is None:
        return NO_VERDICT
    if len(net.pairs) < MIN_PAIRS:
        return FEW
    return CHANGED if is_shown(net) and change.p is not None and change.p <= ALPHA else NOT_SHOWN


def tables(changes: Mapping[str, Change], axes: Mapping[str, str]) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, rows) of each variant: a row per suite, then the mean over suites.

    axes: for each suite id the values of `[axes]` as text; the id does not always show them.
    """
    return [(f"{variant}: {one.own.metric}", _header(one), _rows(one, axes)) for variant, one in changes.items()]


def _header(change: Change) -> list[str]:
    c = change.own
    beyond = [] if change.net is None else ["less the reference's", "95 % CI"]
    return ["suite", str(c.b), c.a, "change", "95 % CI", *beyond, "pairs"]


def _rows(change: Change, axes: Mapping[str, str]) -> list[list[str]]:
    c, net = change.own, change.net
    rows = []
    for suite_id, one in sorted(c.suites.items()):
        beyond = () if net is None else _change(net, net.suites.get(suite_id))
        levels = map(number, _levels(c, suite_id))
        rows.append([_label(suite_id, axes), *levels, *_change(c, one), *beyond, str(one.n)])
    if c.overall is not None and c.n_suites > 1:
        beyond = () if net is None else _change(net, net.overall)
        rows.append(["mean", "", "", *_change(c, c.overall), *beyond, str(len(c.pairs))])
    return rows


def _label(suite_id: str, axes: Mapping[str, str]) -> str:
    return f"{suite_id} ({axes[suite_id]})" if axes.get(suite_id) else suite_id


def _levels(c: Comparison, suite_id: str) -> tuple[float | None, float | None]:
    """The metric before and after: geometric means if the change is a ratio."""
    own = [pair for pair in c.pairs if pair.suite_id == suite_id]
    average = geometric_mean if c.kind == "ratio" else mean
    return average([pair.b for pair in own]), average([pair.a for pair in own])


def _change(c: Comparison, one: Effect | None) -> tuple[str, str]:
    if one is None:
        return UNKNOWN, UNKNOWN
    if c.kind == "ratio":
        return percents(one)
    center, _, bounds = effect(one, 0.0).partition(" ")
    return center, bounds or UNKNOWN


def sentences(changes: Mapping[str, Change], differing: Sequence[str]) -> list[str]:
    """Sentences with what changed, and what may have caused it."""
    found = []
    for variant, change in changes.items():
        c = change.own
        if c.overall is None:
            found.append(f"{variant}: no whole block stands in both ({_join_reasons(c)}).")
            continue
        found.append(
            f"{variant}: {c.a} {_sign(c)} {c.b} = {estimate(c)}, {basis(c)}{_describe_verdict(variant, change)}."
        )
        if c.missing:
            found.append(f"{variant}: {count(len(c.missing), 'block')} left out ({_join_reasons(c)}).")
    found += [f"They differ: {text}." for text in differing] or [
        "Machine, versions and settings are recorded as equal."
    ]
    return [*found, _describe_sessions(changes)]


def _sign(c: Comparison) -> str:
    return "/" if c.kind == "ratio" else "-"


def _join_reasons(c: Comparison) -> str:
    return "; ".join(sorted({reason for _, _, reason in c.missing})[:3])


def _describe_verdict(variant: str, change: Change) -> str:
    net, verdict = change.net, judge(change)
    if variant == REFERENCE:
        return ": what the two sessions differ by"
    if net is None:
        return ": no verdict, one session each"
    if net.overall is None:
        return f": no verdict, as no block has a whole reference in both ({_join_reasons(net)})"
    text = f"; less the change of the reference {estimate(net)}, {basis(net)}"
    if verdict == FEW:
        return f"{text}: a direction, not a finding: {MIN_PAIRS} pairs are the least that could show a change"
    found = "a change beyond the reference's" if verdict == CHANGED else f"no change is shown; {describe_least(net)}"
    return f"{text}, {p_equals(change.p)} (Holm; {describe_test(net)}): {found}"


def _describe_sessions(changes: Mapping[str, Change]) -> str:
    said = "Each ran in a session of its own: what the machine did differently counts as change as well"
    if all(change.net is None for change in changes.values()):
        return f"{said}, so this is no verdict. With a reference in both, its change is taken off."
    return (
        f"{said}. The reference's change is taken off; what a session does to checkpoints alone (a slower disk) is not."
    )


def document(
    before: str, after: str, metric: str, changes: Mapping[str, Change], differing: Sequence[str]
) -> dict[str, Any]:
    """The comparison as one JSON document. A ratio is after / before, a difference is after - before."""
    return {
        "schema": SCHEMA,
        "before": before,
        "after": after,
        "metric": metric,
        "differences": list(differing),
        "variants": {
            variant: _describe_change(one.own)
            | {"verdict": judge(one), "p_holm": one.p}
            | {"net_of_reference": None if one.net is None else _describe_change(one.net)}
            for variant, one in changes.items()
        },
    }


def _describe_change(c: Comparison) -> dict[str, Any]:
    return {
        "kind": c.kind,
        "overall": None if c.overall is None else _numbers(c.overall) | {"p": c.p_value, "n_pairs": len(c.pairs)},
        "suites": {suite_id: _numbers(one) for suite_id, one in sorted(c.suites.items())},
        "missing": [{"suite_id": suite, "seed": seed, "reason": reason} for suite, seed, reason in c.missing],
    }


def _numbers(one: Effect) -> dict[str, Any]:
    return {"center": one.center, "low": one.low, "high": one.high, "n": one.n}
