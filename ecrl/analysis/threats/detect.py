"""Detection of threats to validity from the records, with evidence (docs/metrics.md, "Threats to validity").

A blocking threat keeps the claims that it concerns from being CONFIRMED or REFUTED. A threat that only warns is
printed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.claims.claims import is_about_outcome
from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS
from ecrl.analysis.threats import blocks, design, machine, noise, suites
from ecrl.analysis.threats.base import TABLE_FLAWS, CampaignFacts, Threat
from ecrl.config.matrix import EXPECT, Claim

CHECKS = design.CHECKS | suites.CHECKS | machine.CHECKS | blocks.CHECKS | noise.CHECKS
_BLINDNESS = design.BLINDNESS | suites.BLINDNESS | machine.BLINDNESS | blocks.BLINDNESS | noise.BLINDNESS
BLOCKING = design.BLOCKING | suites.BLOCKING | machine.BLOCKING | blocks.BLOCKING | noise.BLOCKING | TABLE_FLAWS

# Conditions that a claim about outcomes counts, and that therefore do not veto it.
COUNTED_FAILURES = frozenset({"correctness_failed", "missing_blocks"})

# Conditions that can occur only if failures are planned.
NEED_FAILURES = ("replay_untested", "inflight_untested", "drained_before_kill", "page_cache_only", "unequal_failures")

# Why a condition cannot be checked if no reference ran twice. The report says so, as unchecked does not mean passed.
NEED_NOISE = {
    "aa_noise_ge_effect": "no arm was run twice (A/A): `ecrl matrix run --aa VARIANT` does that",
    "sign_only_support": "needs the A/A noise",
}


@dataclass(frozen=True)
class ThreatReport:
    """The result of all checks.

    clear: the codes of conditions that were checked and not met. not_checked, not_applicable: conditions that could not
    be checked, and those that cannot occur, with the reason. Their keys are a code, or 'code (part)' for a part of a
    condition.
    """

    found: tuple[Threat, ...]
    clear: tuple[str, ...]
    not_checked: Mapping[str, str]
    not_applicable: Mapping[str, str] = field(default_factory=dict)

    def has_noise(self, claim: Claim) -> bool | None:
        """Whether the noise of equal runs was measured for a claim; None where it names no effect of two variants."""
        code = "aa_noise_ge_effect"
        parts = EXPECT.fullmatch(claim.expect)
        if claim.compare is None or parts is None or parts["what"] == "rate" or parts["margin"]:
            return None
        return code not in self.not_checked and f"{code} ({claim.name})" not in self.not_checked

    @property
    def veto_codes(self) -> list[str]:
        """Codes of the blocking threats."""
        return sorted({threat.code for threat in self.found if threat.blocking})

    def find_blocking(self, variants: Iterable[str], claim: str = "") -> list[Threat]:
        """The blocking threats that concern what is said of these variants, and of the claim of this name."""
        asked = set(variants)
        return [t for t in self.found if t.blocking and asked.issuperset(t.variants) and t.claim in ("", claim)]

    @property
    def flaws(self) -> list[Threat]:
        """The threats by which the numbers of a table cannot be right."""
        return [threat for threat in self.found if threat.code in TABLE_FLAWS]

    def find_vetoes(self, claim: Claim) -> list[str]:
        """Codes of the threats that keep this claim from being CONFIRMED or REFUTED."""
        asked = {*claim.variants, *([REFERENCE] if claim.metric in REFERENCE_METRICS else [])}
        counted = COUNTED_FAILURES if is_about_outcome(claim) else frozenset[str]()
        return sorted({threat.code for threat in self.find_blocking(asked, claim.name)} - counted)


def detect_threats(
    campaign: LoadedCampaign, *, registered: bool, chosen: tuple[str, str] | None = None
) -> ThreatReport:
    """Check every condition whose evidence is in the records. registered, chosen: see `CampaignFacts`."""
    facts = CampaignFacts(campaign, registered, chosen)
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
    met = {threat.code for threat in found}
    for code, explain in _BLINDNESS.items():
        blind = None if code in not_applicable or code in met else explain(facts)
        if blind is not None:
            not_checked.setdefault(code, blind)
    if undigested := design.explain_undigested(facts):
        not_checked["result_contradicts_events (digests)"] = undigested
    left = met | unseen | not_checked.keys() | not_applicable.keys()
    return ThreatReport(tuple(found), tuple(code for code in CHECKS if code not in left), not_checked, not_applicable)


def _check_against_noise(facts: CampaignFacts) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """The A/A conditions that could not be checked, those that cannot occur, and the codes checked for no effect.

    The first two map a condition, as in `ThreatReport`, to the reason.
    """
    if not facts.campaign.again:
        return dict(NEED_NOISE), {}, set()
    asked = [one.name for one in noise.list_effects(facts)]
    if not asked:
        return {}, dict.fromkeys(NEED_NOISE, "no effect is claimed"), set()
    silent = noise.explain_unchecked(facts)
    not_checked = {f"{code} ({name})": why for code in NEED_NOISE for name, why in silent.items()}
    return not_checked, {}, set(NEED_NOISE) if silent.keys() >= set(asked) else set()
