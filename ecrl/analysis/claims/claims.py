"""Judging the claims that a matrix registered before its first run (docs/metrics.md, "Claims and verdicts")."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from scipy import stats

from ecrl.analysis.campaign.axes import format_where, select_rows
from ecrl.analysis.campaign.registration import Registration
from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS, Row, get_run_key
from ecrl.analysis.statistics.compare import (
    ALPHA,
    MIN_PAIRS,
    Comparison,
    Faults,
    Kind,
    Pair,
    clopper_pearson,
    compare,
    tost_p,
)
from ecrl.analysis.statistics.sequential import DECISION, adjust_e, compute_log_e, compute_rho
from ecrl.config.matrix import EXPECT, Claim

CONFIRMED, REFUTED, INCONCLUSIVE, EXPLORATORY = "CONFIRMED", "REFUTED", "INCONCLUSIVE", "EXPLORATORY"
NOT_JUDGED = "not judged"  # the reason follows it
INTERIM = "INTERIM"
_REGISTERED_ONCE = Registration()
_MAX_LOG_E = math.log(1e6)


@dataclass(frozen=True)
class ClaimResult:
    """A claim, its verdict and the numbers behind it.

    would_be: what the numbers say of the same claim, registered in time and looked at once. It differs from `verdict`
    only if that is INTERIM (registered blocks are not done) or EXPLORATORY.
    estimate, low, high: the effect and its 95 % interval, on the claim's scale (ratio, difference, rate, or the value).
    n_pairs: the blocks that the effect is measured on; the runs if the claim is about a rate of correct runs.
    p, p_adjusted: before and after Holm. A two-sided sign-flip p against the threshold; a TOST p for `within`; an exact
    binomial p for a rate.
    p_opposite: Holm-adjusted, of the test that refutes the claim.
    reasons: why the verdict is not CONFIRMED. comparison: None for a rate.
    looks: how often the results may have been seen before the last run was made; see `Registration.count_looks`.
    log_e, log_e_opposite: of the sequential test, after e-Holm, for the claim and against it; None without such a test.
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
    p_opposite: float | None = None
    looks: int = 1
    log_e: float | None = None
    log_e_opposite: float | None = None

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


def _find_no_vetoes(_claim: Claim) -> Sequence[str]:
    return ()


def judge_claims(
    claims: Sequence[Claim],
    rows: Sequence[Row],
    faults: Faults,
    *,
    registered: bool,
    find_vetoes: Callable[[Claim], Sequence[str]] = _find_no_vetoes,
    registration: Registration = _REGISTERED_ONCE,
    refused: Mapping[str, str] | None = None,
) -> tuple[ClaimResult, ...]:
    """Judge every claim. The Holm adjustment covers all claims; a claim without a p counts as p = 1.

    registered: whether the claims were hashed before the first run; if not, every verdict is EXPLORATORY.
    find_vetoes: the codes of the threats that keep a claim from being CONFIRMED or REFUTED.
    refused: metrics that mislead, with the reason. A claim by one of them is not judged.
    """
    if not claims:
        return ()
    every, measured = _count_suites(rows), []
    for claim in claims:
        chosen = select_rows(rows, claim.where)
        keys = [get_run_key(row) for row in chosen if row["variant"] in _list_needed_variants(claim)]
        why = (refused or {}).get(claim.metric)
        one = _measure_claim(claim, chosen, faults) if why is None else _refuse(claim, why)
        one = replace(one, population=(_count_suites(chosen), every))
        looks = registration.count_looks(keys, of_outcome=is_about_outcome(claim))
        one = replace(one, looks=looks)
        measured.append(one if why is not None else _test_sequentially(one, chosen, faults, registration))
    adjusted = [_adjust(getattr(one, name) for one in measured) for name in ("p", "p_opposite")]
    logs = [adjust_e([getattr(one, name) for one in measured]) for name in ("log_e", "log_e_opposite")]
    judged = []
    for one, p, opposite, log_e, against in zip(measured, *adjusted, *logs, strict=True):
        if one.verdict.startswith(NOT_JUDGED):
            judged.append(one)
            continue
        held = replace(one, p_adjusted=p, p_opposite=opposite, log_e=log_e, log_e_opposite=against)
        vetoes = find_vetoes(held.claim)
        would_be, reasons = _verdict(held, vetoes)
        verdict, reasons = _weigh_looks(held, would_be, reasons, vetoes)
        if registration.pending:
            verdict = INTERIM
            n = len(registration.pending)
            reasons = [*reasons, f"{n} registered block{' is' if n == 1 else 's are'} not done"]
        if not registered:
            verdict, reasons = EXPLORATORY, [*reasons, "the claims are younger than the first run"]
        judged.append(replace(held, verdict=verdict, would_be=would_be, reasons=tuple(reasons)))
    return tuple(judged)


def _refuse(claim: Claim, why: str) -> ClaimResult:
    verdict = f"{NOT_JUDGED}: {why}"
    return ClaimResult(claim, verdict, verdict, None, None, None, None, None, 0, 0, ())


def _list_needed_variants(claim: Claim) -> tuple[str, ...]:
    return (*claim.variants, REFERENCE) if claim.metric in REFERENCE_METRICS else claim.variants


def is_about_outcome(claim: Claim) -> bool:
    """Whether the claim is about how runs ended: a failed run is a result of it."""
    return claim.metric == "correct" and claim.expect.startswith("rate")


def _adjust(values: Iterable[float | None]) -> list[float | None]:
    """Holm-adjusted p values; a missing one counts as 1."""
    # not statsmodels' `multipletests`: it collects garbage at every call, which takes a tenth of a second
    known = list(values)
    found, most = [*known], 0.0
    for rank, i in enumerate(sorted(range(len(known)), key=lambda i: 1.0 if (p := known[i]) is None else p)):
        if (p := known[i]) is not None:
            most = found[i] = max(most, min(1.0, (len(known) - rank) * p))
    return found


def _weigh_looks(
    judged: ClaimResult, would_be: str, reasons: list[str], vetoes: Sequence[str]
) -> tuple[str, list[str]]:
    """The verdict after all looks: a test for one look decides nothing after several; the sequential test may."""
    if judged.looks == 1:
        return would_be, reasons
    decided = INCONCLUSIVE if vetoes else judged.sequential
    if decided != INCONCLUSIVE:
        return decided, [] if decided == CONFIRMED else [f"the sequential test refutes it: {format_e(judged)}"]
    if would_be not in (CONFIRMED, REFUTED):
        return would_be, reasons
    seen = f"{judged.looks} looks: extended or made again after results could be seen"
    return EXPLORATORY, [*reasons, f"{seen}, and the sequential test does not decide: {format_e(judged)}"]


def format_e(judged: ClaimResult) -> str:
    """'E = 12.1, 40 is needed'; 'no sequential test of this claim'."""
    if judged.log_e is None or judged.log_e_opposite is None:
        return "no sequential test of this claim"
    log_e = max(judged.log_e, judged.log_e_opposite)
    e = f"{math.exp(log_e):.3g}" if log_e < _MAX_LOG_E else "above 1e+06"
    return f"E = {e}{'' if judged.log_e >= judged.log_e_opposite else ' against it'}, {DECISION:g} is needed"


def _test_sequentially(
    judged: ClaimResult, rows: Sequence[Row], faults: Faults, registration: Registration
) -> ClaimResult:
    """Add the sequential test of a claim that names a bound, on the first result of every run."""
    claim, c, threshold = judged.claim, judged.comparison, judged.threshold
    first = registration.get_first_rows([row for row in rows if row["variant"] in _list_needed_variants(claim)])
    if c is None or threshold is None or first is None or (c.kind == "ratio" and threshold <= 0):
        return judged
    null = math.log(threshold) if c.kind == "ratio" else threshold
    sign = 1.0 if _bounds(judged)[1] == math.inf else -1.0
    # A fault of the first result would have been one of a result that was made again; the newest one's is used.
    d = _list_observations(compare(first, c.a, c.b, c.metric, c.kind, faults), registration)
    rho = compute_rho([value - null for generation, value in d if generation == 0])
    if rho is None:
        return judged
    shifted = [sign * (value - null) for _, value in d]
    return replace(
        judged, log_e=compute_log_e(shifted, rho), log_e_opposite=compute_log_e([-value for value in shifted], rho)
    )


def _list_observations(c: Comparison, registration: Registration) -> list[tuple[int, float]]:
    """(generation, d) of every observation: a block of the only suite, or the mean of a suite.

    The mean of a suite is over the blocks that were registered with it. Those that a later generation added to it would
    repeat the sign of the suite, so they are no observations of their own.
    """

    def get_generation(pair: Pair) -> int:
        variants = (c.a,) if c.b is None else (c.a, c.b)
        suites = (pair.suite_id, *pair.alike)
        found = registration.generations
        return min(max(found.get((s, v, pair.seed or 0), 0) for v in variants) for s in suites)

    numbered = [(get_generation(pair), pair) for pair in c.pairs]
    if c.unit == "blocks":
        return [(number, pair.d) for number, pair in numbered]
    own: dict[str, list[tuple[int, float]]] = {}
    for number, pair in numbered:
        own.setdefault(pair.suite_id, []).append((number, pair.d))
    observed = []
    for values in own.values():
        begun = min(number for number, _ in values)
        early = [d for number, d in values if number == begun]
        observed.append((begun, math.fsum(early) / len(early)))
    return observed


def _count_suites(rows: Sequence[Row]) -> int:
    return len({row["suite_id"] for row in rows})


def _measure_claim(claim: Claim, rows: Sequence[Row], faults: Faults) -> ClaimResult:
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None, "claims are validated with the matrix"
    if parts["what"] == "rate":
        return _rate(claim, rows, faults)
    a, b = (*claim.variants, None)[:2]
    assert a is not None
    kind: Kind = "ratio" if parts["what"] == "ratio" else "difference"
    c = compare(rows, a, b, claim.metric, kind, faults)
    if parts["margin"]:
        low, high = _margin(kind, float(parts["margin"]))
        p = tost_p(c.units, low, high)
        outside = [bound for bound in (low, high) if math.isfinite(bound)]
        opposite = max((q for bound in outside if (q := c.p_against(bound)) is not None), default=None)
    else:
        threshold = float(parts["threshold"])
        null = math.log(threshold) if kind == "ratio" and threshold > 0 else threshold
        impossible = kind == "ratio" and threshold <= 0  # a ratio is always above 0
        p = opposite = None if impossible else c.p_against(null)
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
        p_opposite=opposite,
    )


def _margin(kind: str, margin: float) -> tuple[float, float]:
    """The lower and upper bound of `within` on the scale of d."""
    if kind == "difference":
        return -margin, margin
    return (math.log(1 - margin) if margin < 1 else -math.inf), math.log(1 + margin)


def _rate(claim: Claim, rows: Sequence[Row], faults: Faults) -> ClaimResult:
    """Measure a claim about a rate.

    Metric `correct`: the share of the first variant's registered runs that are correct. Failed, undecided and missing
    runs count as not correct.
    Any other metric: the share of blocks in which the first variant is above the second.
    """
    a, b = (*claim.variants, None)[:2]
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None
    assert a is not None
    if claim.metric == "correct":
        runs = [row for row in rows if row["variant"] == a]
        trials = len(runs)
        successes = sum(row["outcome"] == "completed" and row["correct"] is True for row in runs)
        suites = len({row["suite_id"] for row in runs})
    else:
        c = compare(rows, a, b, claim.metric, "difference", faults)
        trials, successes, suites = len(c.pairs), sum(pair.d > 0 for pair in c.pairs), c.n_suites
    if not trials:
        return ClaimResult(claim, INCONCLUSIVE, INCONCLUSIVE, None, None, None, None, None, 0, 0, ())
    low, high = clopper_pearson(successes, trials)
    bound = 1 - float(parts["margin"]) if parts["margin"] else float(parts["threshold"])
    side: Literal["less", "greater"] = "less" if parts["op"] in ("<", "<=") else "greater"
    other: Literal["less", "greater"] = "less" if side == "greater" else "greater"
    bound = min(max(bound, 0.0), 1.0)
    p, opposite = (float(stats.binomtest(successes, trials, bound, alternative=way).pvalue) for way in (side, other))
    return ClaimResult(
        claim, INCONCLUSIVE, INCONCLUSIVE, successes / trials, low, high, p, None, trials, suites, (),
        p_opposite=opposite,
    )  # fmt: skip


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
    p = judged.p_opposite if fails else judged.p_adjusted
    is_clear = p is not None and p <= ALPHA
    if not is_clear:
        said = "unknown" if p is None else f"{p:.3g}"
        reasons.append(f"Holm-adjusted p = {said}, {ALPHA:g} or less is needed")
    if vetoes:
        reasons.append(f"blocking threats: {', '.join(vetoes)}")
    if (holds or fails) and is_clear and not vetoes:
        return (REFUTED if fails else CONFIRMED), reasons
    return INCONCLUSIVE, reasons


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
