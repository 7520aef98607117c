"""Threats from the A/A noise: effects that are not larger than the difference between two equal runs."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.campaign.variants import find_main_pair
from ecrl.analysis.claims.noise import Noise, noise
from ecrl.analysis.statistics.compare import Comparison, Kind, compare
from ecrl.analysis.threats.base import CampaignFacts, CheckRegistry, Threat
from ecrl.config.kind import load_kind
from ecrl.config.matrix import EXPECT

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness


def effects(facts: CampaignFacts) -> Iterable[tuple[str, Comparison, Noise | None]]:
    """(name, comparison, noise) of every claimed effect; without claims, of the main comparison.

    The noise is that of the same metric in the same suites.
    """
    asked: list[tuple[str, str, str, str, Kind, Mapping[str, Any]]] = []
    for claim in facts.campaign.matrix.claims:
        parts = EXPECT.fullmatch(claim.expect)
        if claim.compare is None or parts is None or parts["what"] == "rate" or parts["margin"]:
            continue  # `within` claims no effect, and a claim about one variant has none
        if claim.metric in load_kind(facts.campaign.matrix.experiment.kind).refused_metrics:
            continue
        kind: Kind = "ratio" if parts["what"] == "ratio" else "difference"
        asked.append((claim.name, claim.compare[0], claim.compare[1], claim.metric, kind, claim.where))
    if not facts.campaign.matrix.claims and (pair := find_main_pair(facts.engines)) is not None:
        asked.append((" / ".join(pair), *pair, "goodput_steps_per_s", "ratio", {}))
    for name, a, b, metric, kind, where in asked:
        c = compare(select_rows(facts.rows, where), a, b, metric, kind, facts.campaign.faults)
        yield name, c, noise(facts.campaign, metric, kind, where)


def explain_unchecked(facts: CampaignFacts) -> dict[str, str]:
    """The reasons why effects cannot be compared with a noise, by the name of the claim."""
    found = {}
    for name, c, floor in effects(facts):
        if floor is None:
            found[name] = f"A/A noise of {c.metric} is undefined"
        elif c.overall is None:
            found[name] = "no block has both variants"
    return found


def _effects_with_noise(facts: CampaignFacts) -> Iterable[tuple[str, Comparison, Noise]]:
    """The effects that can be compared with the noise of their metric."""
    return ((name, c, floor) for name, c, floor in effects(facts) if c.overall is not None and floor is not None)


def _size(c: Comparison) -> float:
    """The effect on the scale of d."""
    assert c.overall is not None
    return math.log(c.overall.center) if c.kind == "ratio" else c.overall.center


@_checks.register("aa_noise_ge_effect", blocks=True)
def _check_noise_ge_effect(facts: CampaignFacts) -> Iterable[Threat]:
    for name, c, floor in _effects_with_noise(facts):
        if floor.sd >= abs(_size(c)):
            pairs = len(floor.comparison.pairs)
            text = f"{name}: two equal runs differ by {floor.sd:.3g} (SD over {pairs} A/A pairs), the effect is"
            yield Threat("aa_noise_ge_effect", True, f"{text} {abs(_size(c)):.3g}{_unit(c)}")


@_checks.register("sign_only_support")
def _check_sign_only(facts: CampaignFacts) -> Iterable[Threat]:
    for name, c, floor in _effects_with_noise(facts):
        size = _size(c)
        means = [math.log(one.center) if c.kind == "ratio" else one.center for one in c.suites.values()]
        above = sum(mean * size > 0 and abs(mean) > floor.sd for mean in means)
        if 2 * above < len(means):
            text = f"{name}: only {above} of {len(means)} suites show the effect above the A/A noise"
            yield Threat("sign_only_support", False, f"{text} of {floor.sd:.3g}{_unit(c)}")


def _unit(c: Comparison) -> str:
    return " (log ratio)" if c.kind == "ratio" else ""
