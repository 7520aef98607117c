"""The verdict of a registered claim that was looked at once (docs/metrics.md, "Claims and verdicts")."""

from collections.abc import Sequence

from ecrl.analysis.claims.result import CONFIRMED, INCONCLUSIVE, REFUTED, ClaimResult
from ecrl.analysis.statistics.estimate import MIN_SEEDS
from ecrl.analysis.statistics.intervals import ALPHA, MIN_PAIRS
from ecrl.config.matrix import EXPECT


def decide(judged: ClaimResult, vetoes: Sequence[str]) -> tuple[str, list[str]]:
    """The verdict, and the reasons why it is not CONFIRMED."""
    claim = judged.claim
    if judged.estimate is None:
        absent = "no block has both variants" if claim.of is None else f"no block has {claim.metric} of {claim.of}"
        return INCONCLUSIVE, [absent]
    if (few := explain_few(judged)) is not None:
        return INCONCLUSIVE, [few]
    holds, fails, reasons = _locate(judged)
    p = judged.p_opposite_adjusted if fails else judged.p_adjusted
    is_clear = p is not None and p <= ALPHA
    if not is_clear:
        said = "unknown" if p is None else f"{p:.3g}"
        reasons.append(f"Holm-adjusted p = {said}, {ALPHA:g} or less is needed")
    if (holds or fails) and (doubt := _explain_doubt(judged)) is not None:
        is_clear = False
        reasons.append(doubt)
    if vetoes:
        reasons.append(f"blocking threats: {', '.join(vetoes)}")
    if (holds or fails) and is_clear and not vetoes:
        return (REFUTED if fails else CONFIRMED), reasons
    return INCONCLUSIVE, reasons


def explain_few(judged: ClaimResult) -> str | None:
    """Why so few blocks decide nothing; None if they may."""
    c = judged.comparison
    low, high = judged.allowed
    inside = judged.estimate is not None and low <= judged.estimate <= high
    direction = f"directional only, {'in' if inside else 'against'} the claimed direction"
    if judged.n_pairs < MIN_PAIRS:
        return f"{direction}: {judged.basis}, {MIN_PAIRS} are needed"
    if c is None:
        return None
    counted = [] if c.estimate is None else [len(own) for own in c.estimate.groups]
    short = sum(n < MIN_SEEDS for n in counted) + len(c.works) - len(counted)
    if c.estimand == "these suites" and short:
        who = f"{short} of these {len(c.works)} suites {'has' if short == 1 else 'have'}"
        return f"{direction}: {who} fewer than {MIN_SEEDS} {judged.unit}s, which show no spread"
    return None


def _explain_doubt(judged: ClaimResult) -> str | None:
    """Why a decided interval is doubted: the bootstrap interval, which knows skewness, includes the claimed bound."""
    c, bound = judged.comparison, judged.threshold
    low, high = (None, None) if c is None else c.bca
    if bound is None or low is None or high is None or not low <= bound <= high:
        return None
    return f"the t interval decides it, the bootstrap interval [{low:.4g}, {high:.4g}] does not"


def _locate(judged: ClaimResult) -> tuple[bool, bool, list[str]]:
    """Whether the interval supports the claim, whether it contradicts it, and why it does not support it.

    A 95 % interval wholly outside the allowed values contradicts any claim. A ratio or difference `within` a margin
    needs no more than that the interval does not contradict it, as TOST judges it. Any other claim needs a 95 %
    interval wholly inside the allowed values.
    """
    low, high = judged.allowed
    if judged.low is None or judged.high is None:
        return False, False, ["these runs give no interval"]
    if judged.high < low or judged.low > high:
        return False, True, ["the whole 95 % interval lies outside what is claimed"]
    parts = EXPECT.fullmatch(judged.claim.expect)
    if parts is not None and parts["margin"] and parts["what"] != "rate":
        return True, False, []
    strict = parts is not None and parts["op"] in (">", "<")
    inside = low <= judged.low and judged.high <= high
    touching = strict and (judged.low == low or judged.high == high)
    holds = inside and not touching
    return holds, False, [] if holds else ["the 95 % interval includes values that the claim excludes"]
