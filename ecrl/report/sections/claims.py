"""Claims: the claims registered before the runs, and their verdicts."""

from ecrl.analysis.campaign.registration import Aside
from ecrl.analysis.claims.claims import EXPLORATORY, INTERIM, ClaimResult, format_basis, format_e
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import get_run_key
from ecrl.analysis.statistics.compare import POWER, smallest_detectable
from ecrl.analysis.threats.base import join_some
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section, Table
from ecrl.report.text.numbers import count, disagreement, interval, number, p_value, spread

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
            f"**{j.verdict}**",
            f"{number(j.estimate)} {interval(j.low, j.high)}",
            p_value(j.p_adjusted),
            _describe_looks(j),
            f"{format_basis(j)} in {count(j.n_suites, 'suite')}",
        )
        for j in evidence.claims
    )
    headers = ("claim", "expectation", "verdict", "estimate [95 % CI]", "p (Holm)", "looks", "basis")
    blocks: list[Block] = [Table(headers, rows, frozenset({"claim", "expectation", "verdict", "looks", "basis"}))]
    reasons = [text for j in evidence.claims if (text := verdict_text(j)) is not None]
    reasons += _describe_history(evidence)
    blocks += [Bullets(tuple(reasons))] if reasons else []
    detectable = [text for j in evidence.claims if (text := _describe_detectable(j)) is not None]
    if detectable:
        text = f"Smallest effect that would show with {POWER * 100:.0f} % power: {'; '.join(detectable)}."
        if evidence.noise is not None:
            text += f" Two equal runs (A/A) differ in goodput by {spread(evidence.noise.sd)}."
        blocks.append(Paragraph(text))
    return blocks


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


def _describe_detectable(judged: ClaimResult) -> str | None:
    """The smallest detectable effect: 'overlapping pays: 3.2 % with 8 suites (of interest: 1 %)'.

    For a claim about one variant: the distance from the claimed value. None if it cannot be computed.
    """
    c, claim = judged.comparison, judged.claim
    size = smallest_detectable(c.sd, len(c.units)) if c is not None else None
    if c is None or size is None:
        return None
    least = spread(size) if c.kind == "ratio" else number(size)
    away = "" if claim.of is None or judged.threshold is None else f" away from {number(judged.threshold)}"
    wanted = "" if claim.smallest is None else number(claim.smallest * (100 if c.kind == "ratio" else 1))
    interest = f" (of interest: {wanted}{' %' if c.kind == 'ratio' else ''})" if wanted else ""
    return f"{claim.name}: {least}{away} with {len(c.units)} {c.unit}{interest}"


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
