"""Threats to validity, each detected from the records with its evidence (metrics.md section 6).

A blocking threat keeps every claim from being CONFIRMED; a warning is printed and vetoes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.threats import design, machine, noise
from ecrl.analysis.threats.base import CampaignFacts, Threat

CHECKS = design.CHECKS | machine.CHECKS | noise.CHECKS
BLOCKING = design.BLOCKING | machine.BLOCKING | noise.BLOCKING

# Conditions that failures alone can bring about.
NEED_FAILURES = ("replay_untested", "inflight_untested", "drained_before_kill", "page_cache_only")

# Why a condition cannot be looked for where no reference ran twice: said in the report, as silence is no pass.
NEED_NOISE = {
    "aa_noise_ge_effect": "no reference was run twice (A/A): `ecrl matrix run --aa` does that",
    "sign_only_support": "needs the A/A noise",
}


@dataclass(frozen=True)
class ThreatReport:
    """What was found, which conditions were looked for and not met, which could not be looked for, and which cannot
    occur here (both with the reason; a part of a condition is named in brackets behind it)."""

    found: tuple[Threat, ...]
    clear: tuple[str, ...]
    not_checked: Mapping[str, str]
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    @property
    def veto_codes(self) -> list[str]:
        """Codes of the blocking threats."""
        return sorted({threat.code for threat in self.found if threat.blocking})


def detect_threats(campaign: LoadedCampaign, *, registered: bool) -> ThreatReport:
    """Look for every condition whose evidence the records hold. registered: see `claims.judge_claims`."""
    facts = CampaignFacts(campaign, registered)
    found = [threat for check in CHECKS.values() for threat in check(facts)]
    not_checked, not_applicable, unseen = _check_against_noise(facts)
    if not facts.plans_failures:
        not_applicable |= dict.fromkeys(NEED_FAILURES, "no failure is planned")
    devices = {run.row["device"] for run in facts.begun}
    looked_for = {code: needed for code, needed in machine.NEEDED_FACTS.items() if code not in not_applicable}
    for code, needed in looked_for.items():
        asked = [name for name in needed if name not in machine.GPU_FACTS or devices != {"cpu"}]
        absent = [n for n in asked if all(machine.get_fact(run, n) is None for run in campaign.runs)]
        for names, why, place in (
            (absent, "not recorded by any run", not_checked),
            ([name for name in needed if name not in asked], "every run used the CPU", not_applicable),
        ):
            if names:
                place[code if len(names) == len(needed) else f"{code} ({', '.join(names)})"] = why
    left = {threat.code for threat in found} | unseen | not_checked.keys() | not_applicable.keys()
    return ThreatReport(tuple(found), tuple(code for code in CHECKS if code not in left), not_checked, not_applicable)


def _check_against_noise(facts: CampaignFacts) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """What of the A/A conditions could not be looked for and what cannot occur, both with the reason; and the codes
    that no claim was held against."""
    if not facts.campaign.again:
        return dict(NEED_NOISE), {}, set()
    asked = [name for name, _, _ in noise.effects(facts)]
    if not asked:
        return {}, dict.fromkeys(NEED_NOISE, "no effect is claimed"), set()
    silent = noise.explain_unchecked(facts)
    not_checked = {f"{code} ({name})": why for code in NEED_NOISE for name, why in silent.items()}
    return not_checked, {}, set(NEED_NOISE) if silent.keys() >= set(asked) else set()
