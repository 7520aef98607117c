"""Threats to validity, each detected from the records with its evidence (metrics.md section 6).

A blocking threat keeps every claim from being CONFIRMED; a warning is printed and vetoes nothing.
"""

from dataclasses import dataclass

from ecrl.analysis import threat_design, threat_machine, threat_noise
from ecrl.analysis.load import Campaign
from ecrl.analysis.noise import noise
from ecrl.analysis.threat import Scene, Threat, numbers

CHECKS = threat_design.CHECKS | threat_machine.CHECKS | threat_noise.CHECKS

# Why a condition cannot be looked for where the records lack its facts: said in the report, as silence is no pass.
NOT_CHECKED = {
    "aa_noise_ge_effect": "no reference was run twice (A/A)",
    "sign_only_support": "needs the A/A noise",
    "gpu_contention": "foreign processes on the GPU were not recorded",
    "throttled": "clock-event reasons and CPU frequencies were not recorded",
    "suspended": "only one clock was recorded",
    "disk_nearly_full": "free disk space was not recorded",
}


@dataclass(frozen=True)
class ThreatReport:
    """What was found, which conditions were looked for and not met, and which could not be looked for."""

    found: tuple[Threat, ...]
    clear: tuple[str, ...]
    not_checked: dict[str, str]

    @property
    def veto_codes(self) -> list[str]:
        """Codes of the blocking threats."""
        return sorted({threat.code for threat in self.found if threat.blocking})


def detect(campaign: Campaign, *, registered: bool) -> ThreatReport:
    """Look for every condition whose evidence the records hold. registered: see `claims.judge`."""
    scene = Scene(campaign, registered)
    found = [threat for check in CHECKS.values() for threat in check(scene)]
    met = {threat.code for threat in found}
    not_checked = {code: why for code, why in NOT_CHECKED.items() if not _can_check(code, campaign)}
    if not any("torch" in run.facts.get("machine", {}) for run in campaign.runs):
        not_checked["mixed_environment (torch, driver, git)"] = "these facts are not among the recorded machine facts"
    if not any("load1" in numbers(run.facts.get("machine", {})) for run in campaign.runs):
        not_checked["cpu_contention (load, PSI, steal)"] = "not among the recorded machine facts"
    return ThreatReport(
        tuple(found), tuple(code for code in CHECKS if code not in met | not_checked.keys()), not_checked
    )


def _can_check(code: str, campaign: Campaign) -> bool:
    """Whether any run recorded the facts that a check needs."""
    if code in threat_noise.CHECKS:
        return noise(campaign) is not None
    needed = threat_machine.NEEDED_FACTS[code]
    return any(threat_machine.fact(run, name) is not None for run in campaign.runs for name in needed)
