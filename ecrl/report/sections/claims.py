"""Claims: the claims registered before the runs, and their verdicts."""

import math

from ecrl.analysis.campaign.registration import Aside
from ecrl.analysis.claims.power import find_smallest_detectable
from ecrl.analysis.claims.result import EXPLORATORY, INTERIM, ClaimResult, format_e
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import get_run_key
from ecrl.analysis.statistics.estimate import Estimand
from ecrl.analysis.statistics.intervals import POWER, scale_bounds
from ecrl.analysis.threats.base import join_some
from ecrl.report.text import calibration
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Subheading, Table
from ecrl.report.text.numbers import (
    count,
    disagreement,
    effect,
    estimate,
    has_spread,
    interval,
    number,
    p_value,
    spread,
)

_MOST_ASIDES = 12


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    if not evidence.claims:
        if evidence.source == "table":
            return [Paragraph("A table carries no registered claims.")]
        return [Paragraph("No claim was registered in the matrix (`[[claims]]`), so nothing is confirmed or refuted.")]
    rows = tuple(
        (
            j.claim.name,
            j.expectation,
            f"**{j.reading}**",
            _describe_estimate(j),
            p_value(j.p_adjusted),
            _describe_looks(j),
            f"{j.basis} in {count(j.n_suites, 'suite')}",
        )
        for j in evidence.claims
    )
    headers = ("claim", "expectation", "verdict", "estimate [95 % CI]", "p (Holm)", "looks", "basis")
    blocks: list[Block] = [Table(headers, rows, frozenset({"claim", "expectation", "verdict", "looks", "basis"}))]
    reasons = [text for j in evidence.claims if (text := verdict_text(j)) is not None]
    reasons += _describe_history(evidence)
    blocks += [Bullets(tuple(reasons))] if reasons else []
    estimands = [row for j in evidence.claims for row in _compare_estimands(j)]
    if estimands:
        columns = ("claim", "about", "estimate [95 % CI]", "p, unadjusted", "decides")
        blocks += [Subheading("Whom the claims speak of"), Table(columns, tuple(estimands), frozenset(columns))]
    if detectable := [text for j in evidence.claims if (text := _describe_detectable(j, len(evidence.claims)))]:
        text = f"What these runs would show with {POWER * 100:.0f} % power, at their own SD"
        text += f" and after Holm over {len(evidence.claims)} claims" if len(evidence.claims) > 1 else ""
        blocks.append(Paragraph(f"{text}: {'; '.join(detectable)}."))
    return [*blocks, *_describe_calibration(evidence)]


def _describe_estimate(judged: ClaimResult) -> str:
    c = judged.comparison
    return f"{number(judged.estimate)} {interval(judged.low, judged.high)}" if c is None else estimate(c)


def _describe_calibration(evidence: Evidence) -> list[Block]:
    if not (found := evidence.calibrations):
        return []
    table = Table(calibration.HEADERS, tuple(calibration.build_rows(found)), frozenset(calibration.HEADERS))
    text = f"{calibration.describe(found[0].trials)} Made by `ecrl selftest --statistics`."
    return [Subheading("How often such a campaign errs"), Paragraph(text), table]


def _compare_estimands(judged: ClaimResult) -> list[tuple[str, ...]]:
    """The effect as a statement about these suites, about workloads like them, and about the next one."""
    c = judged.comparison
    if c is None or c.estimate is None or c.n_suites < 2:
        return []
    null = judged.threshold if judged.threshold is not None else 1.0 if c.kind == "ratio" else 0.0
    on_d = math.log(null) if c.kind == "ratio" and null > 0 else null
    rows = []
    abouts: dict[Estimand, tuple[str, str]] = {
        "these suites": (f"these {c.n_suites} suites (seeds random)", "seeds"),
        "workloads": (f"workloads like these {c.n_suites} suites (suites random)", "suites"),
    }
    for estimand, (about, few) in abouts.items():
        one = c.estimate_as(estimand)
        assert one is not None
        decides = "yes" if estimand == c.estimand else "no"
        told = effect(c.to_effect(one)) if has_spread(one) else f"{number(judged.estimate)} (too few {few})"
        rows.append((judged.claim.name, about, told, p_value(one.compute_p(on_d)), decides))
    about = "the mean of one more such workload (95 % prediction interval)"
    low, high = scale_bounds(c.estimate.predict_next(), c.kind)
    # of two suites it has one degree of freedom
    told = interval(low, high) if c.n_suites > 2 else "(too few suites)"
    return [*rows, (judged.claim.name, about, f"{number(judged.estimate)} {told}", "", "no")]


def _describe_looks(judged: ClaimResult) -> str:
    """'1'; '3: once would read CONFIRMED, sequential INCONCLUSIVE (E = 12.1, 40 is needed)'."""
    if judged.looks == 1:
        return "1"
    once = f"once would read {judged.would_be}"
    return f"{judged.looks}: {once}, sequential {judged.sequential} ({format_e(judged)})"


def _describe_history(evidence: Evidence) -> list[str]:
    """What was made again, and which other campaigns test the same claims."""
    found = []
    if asides := evidence.registration.asides:
        shown = join_some([_describe_aside(aside, evidence) for aside in asides], _MOST_ASIDES)
        found.append(
            f"Made again after a result was there ({count(len(asides), 'run')}; goodput before, now): {shown}."
        )
    if untraced := evidence.registration.untraced:
        names = join_some(["{}/{}/seed{}".format(*key) for key in untraced], _MOST_ASIDES)
        found.append(f"Made again, and the earlier result is not there any more ({len(untraced)}): {names}.")
    for name, tested in evidence.siblings.items():
        if len(tested) > 1:
            place = 1 + next((i for i, prefix in enumerate(tested) if prefix == evidence.prefix), len(tested) - 1)
            text = f"{name}: number {place} of {len(tested)} campaigns here that test it on these suites"
            found.append(f"{text} ({', '.join(tested)}).")
    return found


def _describe_aside(aside: Aside, evidence: Evidence) -> str:
    now = next((row["goodput_steps_per_s"] for row in evidence.rows if get_run_key(row) == aside.key), None)
    before = None if aside.row is None else aside.row["goodput_steps_per_s"]
    return f"{aside.name} ({aside.outcome}: {number(before)}, {number(now)})"


def _describe_detectable(judged: ClaimResult, claims: int) -> str | None:
    """'overlapped pays: 3.2 % (of interest: 1 %)'; 'overlapped pays: no effect, with 2 pairs'; None for a rate."""
    c, claim = judged.comparison, judged.claim
    if c is None or c.estimate is None:
        return None
    size = find_smallest_detectable(c, claims)
    if size is None:
        return f"{claim.name}: no effect, with {judged.basis} in {count(c.n_suites, 'suite')}"
    least = spread(size) if c.kind == "ratio" else number(size)
    away = "" if claim.of is None or judged.threshold is None else f" away from {number(judged.threshold)}"
    wanted = "" if claim.smallest is None else number(claim.smallest * (100 if c.kind == "ratio" else 1))
    interest = f" (of interest: {wanted}{' %' if c.kind == 'ratio' else ''})" if wanted else ""
    return f"{claim.name}: {least}{away}{interest}"


def verdict_text(judged: ClaimResult) -> str | None:
    """The reasons for a verdict, and a note if its interval and its test disagree. None if there is neither."""
    c, threshold = judged.comparison, judged.threshold
    said = disagreement(c, threshold) if c is not None and threshold is not None else None
    if not judged.reasons and said is None:
        return None
    exploratory = f" (would read {judged.would_be})" if judged.verdict in (EXPLORATORY, INTERIM) else ""
    because = f", because {'; '.join(judged.reasons)}" if judged.reasons else ""
    text = f"{judged.claim.name}: {judged.verdict}{exploratory}{because}."
    return text if said is None else f"{text} {said}."


PLUGIN = Section(60, "Claims", _blocks)
