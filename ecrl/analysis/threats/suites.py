"""Threats in how the effect of the main comparison varies over suites: a mean may hide what decides it.

Campaigns and tables made elsewhere are searched alike.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ecrl.analysis.campaign.axes import format_axis, list_axes
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.interaction import (
    MIN_OTHERS,
    Interaction,
    find_interactions,
    find_leverage,
    get_suite_means,
)
from ecrl.analysis.threats.base import CampaignFacts, CheckRegistry, Threat

OUTLIER_SHARE = 0.5  # from the mean of its suite and variant (pyperf's rule)

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness
Suites = Mapping[str, Row]


def compare_main_pair(facts: CampaignFacts) -> Comparison | None:
    """The main comparison, by goodput; None without one."""
    pair = facts.main_pair
    return pair and compare(facts.rows, *pair, "goodput_steps_per_s", "ratio", facts.campaign.faults)


def list_suites(rows: Iterable[Row]) -> dict[str, Row]:
    """One row of every suite."""
    return {row["suite_id"]: row for row in rows}


def explain_no_interaction(c: Comparison | None, suites: Suites) -> str | None:
    """Why no interaction can be seen; None if one can."""
    if c is None or not c.suites:
        return "there is no main comparison"
    axes = list_axes(suites.values())
    counts = [len({suites[suite_id][axis] for suite_id in c.suites}) for axis in axes]
    if any(1 < count < len(c.suites) for count in counts):
        return None
    return "no factor has several values, one of them with several suites"


@_checks.register("interaction", blind=lambda f: explain_no_interaction(compare_main_pair(f), list_suites(f.rows)))
def _check_interaction(facts: CampaignFacts) -> Iterable[Threat]:
    if (c := compare_main_pair(facts)) is not None:
        yield from find_interaction_threats(c, list_suites(facts.rows))


def find_interaction_threats(c: Comparison, suites: Suites) -> list[Threat]:
    """One threat for each factor on which the effect depends."""
    found = find_interactions(c, suites, list_axes(suites.values()))
    return [Threat("interaction", False, _describe_interaction(one, c, len(found))) for one in found if one.is_shown]


def _describe_interaction(one: Interaction, c: Comparison, n_factors: int) -> str:
    ordered = sorted(one.means.items(), key=lambda item: -item[1])
    ends = ordered if len(ordered) <= 4 else [*ordered[:2], *ordered[-2:]]
    named = ", ".join(f"{format_axis(one.factor, value)} {_percent(d)}" for value, d in ends)
    left = f" and {len(ordered) - len(ends)} between" if len(ends) < len(ordered) else ""
    how = "all labellings" if one.exact else "labellings sampled with a fixed seed"
    said = "the average hides this" if one.has_both_signs else "the average is that of no one value"
    test = f"permutation F test over suites, {how}, Holm over {n_factors} factors: p = {one.p_adjusted:.3g}"
    return f"{c.a} / {c.b} depends on {one.factor}: {named}{left} ({test}): {said}"


def _percent(d: float) -> str:
    return f"{math.expm1(d) * 100:+.2f} %"


def explain_no_outlier(c: Comparison | None, rows: Sequence[Row]) -> str | None:
    """Why no outlier can be seen; None if one can."""
    seen = [(r["suite_id"], r["variant"]) for r in rows if r["goodput_steps_per_s"] is not None]
    if len(set(seen)) < len(seen) or (c is not None and len(c.suites) > MIN_OTHERS):
        return None
    return f"no suite has two seeds of a variant, and there are {MIN_OTHERS} suites or fewer"


@_checks.register("outlier", blind=lambda facts: explain_no_outlier(compare_main_pair(facts), facts.rows))
def _check_outlier(facts: CampaignFacts) -> Iterable[Threat]:
    return find_outliers(compare_main_pair(facts), facts.rows, facts.label)


def find_outliers(c: Comparison | None, rows: Sequence[Row], label: Callable[..., str]) -> Iterable[Threat]:
    """Seeds far from the mean of their suite, and a suite without which the effect is another.

    label: gives the name of a suite, or of a variant of it.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["goodput_steps_per_s"] is not None:
            groups.setdefault((row["suite_id"], row["variant"]), []).append(row)
    for (suite, variant), own in groups.items():
        center = sum(row["goodput_steps_per_s"] for row in own) / len(own)
        far = [row["seed"] for row in own if abs(row["goodput_steps_per_s"] - center) > OUTLIER_SHARE * center]
        if far:
            said = f"lie more than {OUTLIER_SHARE * 100:.0f} % from the mean goodput"
            yield Threat("outlier", False, f"{label(suite, variant)}: seeds {far} {said}")
    if c is not None and (one := find_leverage(c)) is not None:
        center, without, low, high = (f"{math.exp(d):.4g}" for d in (one.center, one.without, one.low, one.high))
        text = f"without {label(one.suite_id)}: {without} [{low}, {high}], with it {center}"
        yield Threat("outlier", False, f"{c.a} / {c.b} hangs on one suite; {text}")


def explain_one_dataset(c: Comparison | None, suites: Suites) -> str | None:
    """Why no difference between data sets can be seen; None if one can."""
    if c is None or not c.suites:
        return "there is no main comparison"
    return None if len({suites[suite_id]["dataset"] for suite_id in c.suites}) > 1 else "one data set"


@_checks.register("nuisance_gt_effect", blind=lambda f: explain_one_dataset(compare_main_pair(f), list_suites(f.rows)))
def _check_nuisance(facts: CampaignFacts) -> Iterable[Threat]:
    if (c := compare_main_pair(facts)) is not None:
        yield from find_nuisance(c, list_suites(facts.rows))


def find_nuisance(c: Comparison, suites: Suites) -> list[Threat]:
    """One threat if the ratio of the two variants differs more between data sets than it differs from 1; else none.

    Only suites are compared whose other axes are all equal.
    """
    # A level, such as the goodput of one variant, cancels in the ratio and says nothing about it.
    if c.overall is None:
        return []
    axes = [axis for axis in list_axes(suites.values()) if axis != "dataset"]
    cells: dict[tuple[Any, ...], dict[str, list[float]]] = {}
    for suite_id, d in get_suite_means(c).items():
        row = suites[suite_id]
        cells.setdefault(tuple(row[axis] for axis in axes), {}).setdefault(row["dataset"], []).append(d)
    datasets = list(dict.fromkeys(dataset for cell in cells.values() for dataset in cell))
    whole = [cell for cell in cells.values() if len(cell) == len(datasets)]
    if not whole or len(datasets) < 2:
        return []
    means = {name: sum(sum(cell[name]) / len(cell[name]) for cell in whole) / len(whole) for name in datasets}
    effect = math.log(c.overall.center)
    ends = sorted(means, key=lambda name: -means[name])
    if means[ends[0]] - means[ends[-1]] <= abs(effect):
        return []
    told = " against ".join(f"{_percent(means[name])} on {name}" for name in (ends[0], ends[-1]))
    evidence = f"{c.a} / {c.b} is {told}, all else equal: further apart than the effect ({_percent(effect)}) is from 0"
    return [Threat("nuisance_gt_effect", False, evidence)]
