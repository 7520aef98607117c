"""Judging the claims that a matrix registered before its first run (docs/metrics.md, "Claims and verdicts")."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats
from statsmodels.stats.multitest import multipletests

from ecrl.analysis.campaign.axes import format_where, select_rows
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import (
    ALPHA,
    MIN_PAIRS,
    BlockKey,
    Comparison,
    Kind,
    clopper_pearson,
    compare,
    tost_p,
)
from ecrl.config.matrix import EXPECT, Claim

CONFIRMED, REFUTED, INCONCLUSIVE, EXPLORATORY = "CONFIRMED", "REFUTED", "INCONCLUSIVE", "EXPLORATORY"
NOT_JUDGED = "not judged"  # the reason follows it


@dataclass(frozen=True)
class ClaimResult:
    """A claim, its verdict and the numbers behind it.

    would_be: the verdict of the same claim if it had been registered in time. It differs from `verdict` only if that is
    EXPLORATORY.
    estimate, low, high: the effect and its 95 % interval, on the claim's scale (ratio, difference, rate, or the value).
    n_pairs: the blocks that the effect is measured on; the runs if the claim is about a rate of correct runs.
    p, p_adjusted: before and after Holm. A two-sided sign-flip p against the threshold; a TOST p for `within`; an exact
    binomial p for a rate.
    reasons: why the verdict is not CONFIRMED. comparison: None for a rate.
    population: the number of suites that the claim is about, and the number of all suites.
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

    @property
    def allowed(self) -> tuple[float, float]:
        """The interval of values that the claim allows, on the claim's scale. An end may be infinite."""
        return _bounds(self)

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
    def unit(self) -> str:
        """What `n_pairs` counts: 'pair'; 'block' of a claim about one variant; 'run' for a rate of correct runs."""
        if self.claim.metric == "correct" and self.claim.expect.startswith("rate"):
            return "run"
        return "pair" if self.claim.of is None else "block"


def judge_claims(
    claims: Sequence[Claim],
    rows: Sequence[Row],
    dropped: Mapping[BlockKey, str],
    *,
    registered: bool,
    vetoes: Sequence[str] = (),
    refused: Mapping[str, str] | None = None,
) -> tuple[ClaimResult, ...]:
    """Judge every claim. The Holm adjustment covers all claims; a claim without a p counts as p = 1.

    registered: whether the claims were hashed before the first run; if not, every verdict is EXPLORATORY.
    vetoes: codes of blocking threats. With any of them no claim is CONFIRMED.
    refused: metrics that mislead, with the reason. A claim by one of them is not judged.
    """
    if not claims:
        return ()
    every, measured = _count_suites(rows), []
    for claim in claims:
        chosen = select_rows(rows, claim.where)
        why = (refused or {}).get(claim.metric)
        one = _measure_claim(claim, chosen, dropped) if why is None else _refuse(claim, why)
        measured.append(replace(one, population=(_count_suites(chosen), every)))
    adjusted = multipletests([1.0 if m.p is None else m.p for m in measured], alpha=ALPHA, method="holm")[1]
    judged = []
    for one, p in zip(measured, adjusted, strict=True):
        if one.verdict.startswith(NOT_JUDGED):
            judged.append(one)
            continue
        held = replace(one, p_adjusted=None if one.p is None else float(p))
        verdict, reasons = _verdict(held, vetoes)
        reasons = [*reasons, *([] if registered else ["the claims are younger than the first run"])]
        judged.append(
            replace(held, verdict=verdict if registered else EXPLORATORY, would_be=verdict, reasons=tuple(reasons))
        )
    return tuple(judged)


def _refuse(claim: Claim, why: str) -> ClaimResult:
    verdict = f"{NOT_JUDGED}: {why}"
    return ClaimResult(claim, verdict, verdict, None, None, None, None, None, 0, 0, ())


def _count_suites(rows: Sequence[Row]) -> int:
    return len({row["suite_id"] for row in rows})


def _measure_claim(claim: Claim, rows: Sequence[Row], dropped: Mapping[BlockKey, str]) -> ClaimResult:
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None, "claims are validated with the matrix"
    if parts["what"] == "rate":
        return _rate(claim, rows, dropped)
    a, b = (*claim.variants, None)[:2]
    assert a is not None
    kind: Kind = "ratio" if parts["what"] == "ratio" else "difference"
    c = compare(rows, a, b, claim.metric, kind, dropped)
    if parts["margin"]:
        low, high = _margin(kind, float(parts["margin"]))
        p = tost_p(c.units, low, high)
    else:
        threshold = float(parts["threshold"])
        null = math.log(threshold) if kind == "ratio" and threshold > 0 else threshold
        impossible = kind == "ratio" and threshold <= 0  # a ratio is always above 0
        p = None if impossible else c.p_against(null)
    effect = c.overall
    return ClaimResult(
        claim,
        INCONCLUSIVE,
        INCONCLUSIVE,
        effect.center if effect else None,
        effect.low if effect else None,
        effect.high if effect else None,
        p,
        None,
        len(c.pairs),
        c.n_suites,
        (),
        c,
    )


def _margin(kind: str, margin: float) -> tuple[float, float]:
    """The lower and upper bound of `within` on the scale of d."""
    if kind == "difference":
        return -margin, margin
    return (math.log(1 - margin) if margin < 1 else -math.inf), math.log(1 + margin)


def _rate(claim: Claim, rows: Sequence[Row], dropped: Mapping[BlockKey, str]) -> ClaimResult:
    """Measure a claim about a rate.

    Metric `correct`: the share of the first variant's runs that are correct. Undecided runs count as not correct.
    Any other metric: the share of blocks in which the first variant is above the second.
    """
    a, b = (*claim.variants, None)[:2]
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None
    assert a is not None
    if claim.metric == "correct":
        runs = [row for row in rows if row["variant"] == a and row["outcome"] != "missing"]
        trials, successes = len(runs), sum(row["correct"] is True for row in runs)
        suites = len({row["suite_id"] for row in runs})
    else:
        c = compare(rows, a, b, claim.metric, "difference", dropped)
        trials, successes, suites = len(c.pairs), sum(pair.d > 0 for pair in c.pairs), c.n_suites
    if not trials:
        return ClaimResult(claim, INCONCLUSIVE, INCONCLUSIVE, None, None, None, None, None, 0, 0, ())
    low, high = clopper_pearson(successes, trials)
    bound = 1 - float(parts["margin"]) if parts["margin"] else float(parts["threshold"])
    side: Literal["less", "greater"] = "less" if parts["op"] in ("<", "<=") else "greater"
    p = float(stats.binomtest(successes, trials, min(max(bound, 0.0), 1.0), alternative=side).pvalue)
    return ClaimResult(claim, INCONCLUSIVE, INCONCLUSIVE, successes / trials, low, high, p, None, trials, suites, ())


def _verdict(judged: ClaimResult, vetoes: Sequence[str]) -> tuple[str, list[str]]:
    """The verdict of a registered claim, and the reasons why it is not CONFIRMED."""
    if judged.estimate is None:
        claim = judged.claim
        return INCONCLUSIVE, [
            "no block has both variants" if claim.of is None else f"no block has {claim.metric} of {claim.of}"
        ]
    holds, fails, reasons = _position(judged)
    if judged.comparison is not None and judged.n_pairs < MIN_PAIRS:
        direction = "in the claimed direction" if _is_inside_bounds(judged) else "against the claimed direction"
        return INCONCLUSIVE, [f"directional only, {direction}: {format_basis(judged)}, {MIN_PAIRS} are needed"]
    if fails:
        return REFUTED, reasons
    if judged.p_adjusted is None or judged.p_adjusted > ALPHA:
        p = "unknown" if judged.p_adjusted is None else f"{judged.p_adjusted:.3g}"
        reasons.append(f"Holm-adjusted p = {p}, {ALPHA:g} or less is needed")
        holds = False
    if vetoes:
        reasons.append(f"blocking threats: {', '.join(vetoes)}")
    return (CONFIRMED if holds and not vetoes else INCONCLUSIVE), reasons


def format_basis(judged: ClaimResult) -> str:
    """'1 pair', '8 blocks'."""
    return f"{judged.n_pairs} {judged.unit}{'' if judged.n_pairs == 1 else 's'}"


def _bounds(judged: ClaimResult) -> tuple[float, float]:
    """The interval of values that the claim allows, on the claim's scale."""
    parts = EXPECT.fullmatch(judged.claim.expect)
    assert parts is not None
    if parts["margin"]:
        margin = float(parts["margin"])
        middle = 0.0 if parts["what"] == "difference" else 1.0
        return middle - margin, middle + margin
    threshold = float(parts["threshold"])
    return (threshold, math.inf) if parts["op"] in (">", ">=") else (-math.inf, threshold)


def _is_inside_bounds(judged: ClaimResult) -> bool:
    low, high = _bounds(judged)
    return judged.estimate is not None and low <= judged.estimate <= high


def _position(judged: ClaimResult) -> tuple[bool, bool, list[str]]:
    """Whether the interval supports the claim, whether it contradicts it, and why it does not support it.

    A 95 % interval wholly outside the allowed values contradicts any claim. A ratio or difference `within` a margin
    needs no more than that the interval does not contradict it, as TOST judges it. Any other claim needs a 95 %
    interval wholly inside the allowed values.
    """
    low, high = _bounds(judged)
    if judged.low is None or judged.high is None:
        return False, False, ["one observation gives no interval"]
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
