"""Judging the claims that a matrix registered before its first run (docs/metrics.md, "Claims and verdicts")."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.campaign.registration import Registration
from ecrl.analysis.claims.measure import measure_claim
from ecrl.analysis.claims.result import (
    CONFIRMED,
    DECIDED,
    EXPLORATORY,
    INCONCLUSIVE,
    INTERIM,
    NOT_JUDGED,
    ClaimResult,
    format_e,
)
from ecrl.analysis.claims.sequential_claims import test_sequentially
from ecrl.analysis.claims.verdict import decide
from ecrl.analysis.run.metrics import REFERENCE, Row, get_run_key
from ecrl.analysis.statistics.compare import Faults
from ecrl.analysis.statistics.pairwise import adjust_holm
from ecrl.analysis.statistics.sequential import adjust_e
from ecrl.config.matrix import Claim

_REGISTERED_ONCE = Registration()


def find_no_vetoes(_claim: Claim) -> Sequence[str]:
    """The vetoes of a claim where no threat was looked for."""
    return ()


def _measure_no_noise(_claim: Claim) -> bool | None:
    return None


def judge_claims(
    claims: Sequence[Claim],
    rows: Sequence[Row],
    faults: Faults,
    *,
    registered: bool,
    find_vetoes: Callable[[Claim], Sequence[str]] = find_no_vetoes,
    has_noise: Callable[[Claim], bool | None] = _measure_no_noise,
    registration: Registration = _REGISTERED_ONCE,
    refused: Mapping[str, str] | None = None,
) -> tuple[ClaimResult, ...]:
    """Judge every claim. The Holm adjustment covers all claims; a claim without a p counts as p = 1.

    registered: whether the claims were hashed before the first run; if not, every verdict is EXPLORATORY.
    find_vetoes: the codes of the threats that keep a claim from being CONFIRMED or REFUTED.
    has_noise: whether the noise of equal runs was measured for a claim; None where it names no effect of two variants.
    refused: metrics that mislead, with the reason. A claim by one of them is not judged.
    """
    if not claims:
        return ()
    every, measured = _count_suites(rows), []
    for claim in claims:
        chosen = select_rows(rows, claim.where)
        needed = [row for row in chosen if row["variant"] in _list_needed_variants(claim)]
        why = (refused or {}).get(claim.metric)
        one = measure_claim(claim, chosen, faults) if why is None else _refuse(claim, why)
        looks = registration.count_looks(map(get_run_key, needed), of_outcome=is_about_outcome(claim))
        population = (_count_suites(chosen), every)
        one = replace(one, population=population, looks=looks, noise_measured=has_noise(claim))
        measured.append(one if why is not None else test_sequentially(one, needed, faults, registration))
    early = registration.get_first_rows(rows) if any(one.looks > 1 for one in measured) else None
    if early is not None:
        early = [row for row in early if registration.generations.get(get_run_key(row), 0) == 0]
        firsts = judge_claims(claims, early, faults, registered=registered, find_vetoes=find_vetoes, refused=refused)
        measured = [replace(one, first=first.verdict) for one, first in zip(measured, firsts, strict=True)]
    return decide_claims(measured, registered=registered, find_vetoes=find_vetoes, registration=registration)


def decide_claims(
    measured: Sequence[ClaimResult],
    *,
    registered: bool = True,
    find_vetoes: Callable[[Claim], Sequence[str]] = find_no_vetoes,
    registration: Registration = _REGISTERED_ONCE,
) -> tuple[ClaimResult, ...]:
    """Give measured claims their verdicts. The options are those of `judge_claims`."""
    adjusted = [adjust_holm(getattr(one, name) for one in measured) for name in ("p", "p_opposite")]
    logs = [adjust_e([getattr(one, name) for one in measured]) for name in ("log_e", "log_e_opposite")]
    judged = []
    for one, p, opposite, log_e, against in zip(measured, *adjusted, *logs, strict=True):
        if one.verdict.startswith(NOT_JUDGED):
            judged.append(one)
            continue
        held = replace(one, p_adjusted=p, p_opposite_adjusted=opposite, log_e=log_e, log_e_opposite=against)
        vetoes = find_vetoes(held.claim)
        would_be, reasons = decide(held, vetoes)
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
    # The reference belongs to them for every metric: what it shows of the gates decides which blocks count.
    return (*claim.variants, REFERENCE)


def is_about_outcome(claim: Claim) -> bool:
    """Whether the claim is about how runs ended: a failed run is a result of it."""
    return claim.metric == "correct" and claim.expect.startswith("rate")


def _weigh_looks(
    judged: ClaimResult, would_be: str, reasons: list[str], vetoes: Sequence[str]
) -> tuple[str, list[str]]:
    """The verdict after all looks: a test for one look decides nothing after several; the sequential test may."""
    if judged.looks == 1:
        return would_be, reasons
    decided = INCONCLUSIVE if vetoes else judged.sequential
    if decided != INCONCLUSIVE:
        return decided, [] if decided == CONFIRMED else [f"the sequential test refutes it: {format_e(judged)}"]
    # An extension must not hide what the campaign that was registered has shown.
    if judged.first in DECIDED and judged.first != would_be:
        reasons = [*reasons, f"the runs that were registered first, looked at once, read {judged.first}"]
    if would_be not in DECIDED:
        return would_be, reasons
    seen = f"{judged.looks} looks: extended or made again after results could be seen"
    return EXPLORATORY, [*reasons, f"{seen}, and the sequential test does not decide: {format_e(judged)}"]


def _count_suites(rows: Sequence[Row]) -> int:
    return len({row["suite_id"] for row in rows})
