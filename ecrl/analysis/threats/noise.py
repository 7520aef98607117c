"""Threats from the A/A noise: effects that are not larger than what equal runs differ by."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.claims.noise import Noise, measure_noise
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import Kind
from ecrl.analysis.threats.base import CampaignFacts, CheckRegistry, Threat, format_count
from ecrl.config.kind import load_kind
from ecrl.config.matrix import EXPECT

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness


@dataclass(frozen=True)
class ClaimedEffect:
    """An effect that is claimed; without claims, that of the main comparison. noise: of its metric in its suites."""

    name: str
    comparison: Comparison
    noise: Noise | None

    @property
    def size(self) -> float:
        """The effect on the scale of d."""
        assert self.comparison.estimate is not None
        return self.comparison.estimate.center


def list_effects(facts: CampaignFacts) -> Iterable[ClaimedEffect]:
    """Every claimed effect of two variants; without claims, that of the main comparison."""
    asked: list[tuple[str, str, str, str, Kind, Mapping[str, Any]]] = []
    for claim in facts.campaign.matrix.claims:
        parts = EXPECT.fullmatch(claim.expect)
        if claim.compare is None or parts is None or parts["what"] == "rate" or parts["margin"]:
            continue  # `within` claims no effect, and a claim about one variant has none
        if claim.metric in load_kind(facts.campaign.matrix.experiment.kind).refused_metrics:
            continue
        kind: Kind = "ratio" if parts["what"] == "ratio" else "difference"
        asked.append((claim.name, claim.compare[0], claim.compare[1], claim.metric, kind, claim.where))
    if not facts.campaign.matrix.claims and (pair := facts.main_pair) is not None:
        asked.append((" / ".join(pair), *pair, "goodput_steps_per_s", "ratio", {}))
    for name, a, b, metric, kind, where in asked:
        c = compare(select_rows(facts.rows, where), a, b, metric, kind, facts.campaign.faults)
        yield ClaimedEffect(name, c, measure_noise(facts.campaign, metric, kind, where, (a, b)))


def explain_unchecked(facts: CampaignFacts) -> dict[str, str]:
    """The reasons why effects cannot be compared with a noise, by the name of the claim."""
    found = {}
    for one in list_effects(facts):
        if one.noise is None:
            found[one.name] = f"A/A noise of {one.comparison.metric} is undefined"
        elif one.comparison.overall is None:
            found[one.name] = "no block has both variants"
    return found


def _list_measured(facts: CampaignFacts) -> Iterable[tuple[ClaimedEffect, Noise]]:
    """The effects that can be compared with the noise of their metric."""
    effects = [one for one in list_effects(facts) if one.comparison.overall is not None]
    return ((one, one.noise) for one in effects if one.noise is not None)


@_checks.register("aa_noise_ge_effect", blocks=True)
def _check_noise_ge_effect(facts: CampaignFacts) -> Iterable[Threat]:
    for one, noise in _list_measured(facts):
        c, size = one.comparison, abs(one.size)
        assert c.estimate is not None
        of = f"{format_count(len(noise.d), 'A/A pair')} of {noise.arm}"
        told = f"the effect is {size:.3g}{' (log ratio)' if c.kind == 'ratio' else ''}"
        reach = noise.compute_mean_bound(c.estimate.weights)
        if size <= reach:
            text = f"{one.name}: a mean of {format_count(len(c.pairs), 'pair')} of equal runs may lie {reach:.3g}"
            text += f" from 0 ({of}, SD {noise.sd:.3g}), {told}"
            yield Threat("aa_noise_ge_effect", True, text, claim=one.name)
        elif noise.bias is not None:
            text = f"{one.name}: equal runs are told apart: their mean lies up to {noise.bias:.3g} from 0 ({of})"
            yield Threat("aa_noise_ge_effect", size <= noise.bias, f"{text}, {told}", claim=one.name)


@_checks.register("sign_only_support")
def _check_sign_only(facts: CampaignFacts) -> Iterable[Threat]:
    for one, noise in _list_measured(facts):
        c = one.comparison
        assert c.estimate is not None
        noises = [noise.sd / math.sqrt(len(group)) for group in c.estimate.groups]
        above = sum(m * one.size > 0 and abs(m) > sd for m, sd in zip(c.estimate.means, noises, strict=True))
        if 2 * above < len(noises):
            text = f"{one.name}: only {above} of {len(noises)} suites show the effect above the A/A noise of their mean"
            yield Threat("sign_only_support", False, f"{text} (SD of one pair {noise.sd:.3g})")
