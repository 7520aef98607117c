"""A claim with its verdict, and the words of verdicts (docs/metrics.md, "Claims and verdicts")."""

import math
from dataclasses import dataclass

from ecrl.analysis.campaign.axes import format_where
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.sequential import DECISION
from ecrl.config.matrix import EXPECT, Claim

CONFIRMED, REFUTED, INCONCLUSIVE, EXPLORATORY = "CONFIRMED", "REFUTED", "INCONCLUSIVE", "EXPLORATORY"
DECIDED = (CONFIRMED, REFUTED)
NOT_JUDGED = "not judged"  # the reason follows it
INTERIM = "INTERIM"
_MAX_LOG_E = math.log(1e6)


@dataclass(frozen=True)
class ClaimResult:
    """A claim, its verdict and the numbers behind it.

    would_be: what the numbers say of the same claim, registered in time and looked at once. It differs from `verdict`
    only if that is INTERIM (registered blocks are not done) or EXPLORATORY.
    estimate, low, high: the effect and its 95 % interval, on the claim's scale (ratio, difference, rate, or the value).
    n_pairs: the blocks that the effect is measured on; the runs if the claim is about a rate of correct runs.
    p, p_adjusted: before and after Holm. The two-sided p of the comparison against the threshold; a TOST p for
    `within`; an exact binomial p for a rate.
    p_opposite, p_opposite_adjusted: the same of the test that refutes the claim.
    reasons: why the verdict is not CONFIRMED. comparison: None for a rate.
    looks: how often the results may have been seen before the last run was made; see `Registration.count_looks`.
    first: what the runs that were registered first read, with their first results, looked at once; '' if unknown.
    log_e, log_e_opposite: of the sequential test, after e-Holm, for the claim and against it; None without such a test.
    population: the number of suites that the claim is about, and the number of all suites.
    scope: whom a verdict speaks of: 'for these 4 suites'.
    noise_measured: whether equal runs were compared in this metric; None where the claim names no effect.
    """

    claim: Claim
    verdict: str
    would_be: str
    estimate: float | None
    low: float | None
    high: float | None
    p: float | None
    p_adjusted: float | None
    n_pairs: int
    n_suites: int
    reasons: tuple[str, ...]
    comparison: Comparison | None = None
    population: tuple[int, int] = (0, 0)
    p_opposite: float | None = None
    p_opposite_adjusted: float | None = None
    looks: int = 1
    first: str = ""
    log_e: float | None = None
    log_e_opposite: float | None = None
    scope: str = ""
    noise_measured: bool | None = None

    @property
    def reading(self) -> str:
        """The verdict with its population: 'CONFIRMED for these 4 suites, noise not measured'."""
        if self.verdict not in DECIDED:
            return self.verdict
        unmeasured = ", noise not measured" if self.verdict == CONFIRMED and self.noise_measured is False else ""
        return f"{self.verdict} {self.scope}{unmeasured}"

    @property
    def sequential(self) -> str:
        """The verdict of the sequential test."""
        for verdict, found in ((CONFIRMED, self.log_e), (REFUTED, self.log_e_opposite)):
            if found is not None and found >= math.log(DECISION):
                return verdict
        return INCONCLUSIVE

    @property
    def allowed(self) -> tuple[float, float]:
        """The interval of values that the claim allows, on the claim's scale. An end may be infinite."""
        return get_allowed(self.claim)

    @property
    def threshold(self) -> float | None:
        """The bound that an effect must lie above or below, on the claim's scale; None for a rate and for `within`."""
        parts = EXPECT.fullmatch(self.claim.expect)
        plain = parts is not None and parts["what"] != "rate" and not parts["margin"]
        return float(parts["threshold"]) if parts is not None and plain else None

    @property
    def expectation(self) -> str:
        """The claim as text.

        Of two variants: 'goodput_steps_per_s: overlapped / blocking, ratio > 1.00, for 4 of 8 suites: dataset = noise'.
        Of one variant: 'wall_s of blocking: value < 20'.
        """
        claim, what = self.claim, EXPECT.fullmatch(self.claim.expect)
        sign = {"ratio": " / ", "difference": " - "}.get(what["what"] if what else "", " against ")
        of = f" of {claim.of}:" if claim.of else f": {sign.join(claim.variants)},"
        text = f"{claim.metric}{of} {claim.expect}"
        if not claim.where:
            return text
        chosen, every = self.population
        return f"{text}, for {chosen} of {every} suite{'' if every == 1 else 's'}: {format_where(claim.where)}"

    @property
    def basis(self) -> str:
        """'1 pair', '8 blocks'."""
        return f"{self.n_pairs} {self.unit}{'' if self.n_pairs == 1 else 's'}"

    @property
    def unit(self) -> str:
        """What `n_pairs` counts: 'pair'; 'block' of a claim about one variant; 'run' for a rate of correct runs."""
        if self.claim.metric == "correct" and self.claim.expect.startswith("rate"):
            return "run"
        return "pair" if self.claim.of is None else "block"


def get_allowed(claim: Claim) -> tuple[float, float]:
    """The interval of values that a claim allows, on its scale. An end may be infinite."""
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None, "claims are validated with the matrix"
    if parts["margin"]:
        margin = float(parts["margin"])
        middle = 0.0 if parts["what"] == "difference" else 1.0
        return middle - margin, middle + margin
    threshold = float(parts["threshold"])
    return (threshold, math.inf) if parts["op"] in (">", ">=") else (-math.inf, threshold)


def format_e(judged: ClaimResult) -> str:
    """'E = 12.1, 40 is needed'; 'no sequential test of this claim'."""
    if judged.log_e is None or judged.log_e_opposite is None:
        return "no sequential test of this claim"
    log_e = max(judged.log_e, judged.log_e_opposite)
    e = f"{math.exp(log_e):.3g}" if log_e < _MAX_LOG_E else "above 1e+06"
    return f"E = {e}{'' if judged.log_e >= judged.log_e_opposite else ' against it'}, {DECISION:g} is needed"
