"""The answer of a report: which engine to use, what it gains or costs, how sure that is, and one row per variant."""

from ecrl.analysis.claims.result import CONFIRMED, REFUTED, ClaimResult
from ecrl.analysis.evidence import GOODPUT, Evidence
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison
from ecrl.report.text.document import Block, Paragraph
from ecrl.report.text.inference import describe_least, is_shown
from ecrl.report.text.numbers import basis, count, estimate, join_names, number
from ecrl.report.text.variant_rows import build_variant_table, rank_variants


def build_answer(evidence: Evidence) -> list[Block]:
    """The sentence and the rows, which `ecrl report` prints last."""
    rows = [build_variant_table(evidence)] if evidence.completed else []
    return [Paragraph(build_sentence(evidence)), *rows]


def build_sentence(evidence: Evidence) -> str:
    """The answer. Where a threat blocks, or nothing is shown, it says that and recommends nothing."""
    if not evidence.completed:
        return f"No answer: {'no run completed' if evidence.rows else 'the matrix holds no suite'}."
    if evidence.headline is None:
        return f"No answer: {join_names(evidence.variants)} alone ran, so there is nothing to compare it with."
    a, b = evidence.headline
    c = evidence.compare(a, b)
    if c.overall is None:
        reasons = sorted({reason for _, _, reason in c.missing})
        return f"No answer: no block has both {a} and {b}{f' ({reasons[0]})' if reasons else ''}."
    claim = find_claim(evidence, c)
    if blocking := evidence.threats.find_blocking((a, b), claim.claim.name if claim else ""):
        codes = join_names(dict.fromkeys(f"`{threat.code}`" for threat in blocking))
        verb = "keeps" if len({threat.code for threat in blocking}) == 1 else "keep"
        return (
            f"No answer: {codes} {verb} these runs from deciding between {a} and {b}"
            f" ({blocking[0].evidence}). The numbers below describe these runs and decide nothing."
        )
    return f"{_describe_pair(evidence, c)}{_describe_best(evidence)}"


def _describe_pair(evidence: Evidence, c: Comparison) -> str:
    claim = find_claim(evidence, c)
    sure = f" The claim '{claim.claim.name}' ({claim.claim.expect}) reads {claim.reading}." if claim else ""
    if pending := evidence.registration.pending:
        so_far = f"so far the goodput of {c.a} is {estimate(c)} times that of {c.b} ({basis(c)})"
        blocks = count(len(pending), "registered block")
        return f"No answer yet: {blocks} {'is' if len(pending) == 1 else 'are'} not done; {so_far}.{sure}"
    if not is_shown(c):
        text = f"Nothing tells the goodput of {c.a} from that of {c.b}: {estimate(c)} times ({basis(c)})"
        return f"{text}; {describe_least(c)}.{sure}"
    assert c.overall is not None
    better = c.a if c.overall.center > 1 else str(c.b)
    # A claim about some suites decides nothing about all of them, and one of equality names no better variant.
    decided = claim is not None and claim.verdict in (CONFIRMED, REFUTED) and not claim.claim.where
    decided = decided and claim is not None and claim.threshold is not None
    head = f"Use {better}" if decided else f"These runs favour {better}"
    if not decided and evidence.looks > 1:
        head = f"After {evidence.looks} looks, which the interval does not count, these runs favour {better}"
    if REFERENCE in (c.a, c.b):
        engine = c.a if c.b == REFERENCE else c.b
        head = f"{engine} is measured against the reference, not against another engine"
    text = f"{head}: the goodput of {c.a} is {estimate(c)} times that of {c.b} ({basis(c)})"
    has_reference = REFERENCE in evidence.variants and REFERENCE not in (c.a, c.b)
    kept = evidence.compare(better, REFERENCE) if has_reference else None
    if kept is not None and kept.overall is not None:
        text += f", and {better} keeps {estimate(kept)} of the reference's"
    return f"{text}.{sure}" if claim else f"{text}. No claim about it was registered before the runs: exploratory."


def _describe_best(evidence: Evidence) -> str:
    """A sentence on the engine with the highest goodput, if it is not one of the main comparison."""
    engines = [one for one in rank_variants(evidence) if one.variant != REFERENCE and one.goodput is not None]
    if len(engines) < 3 or evidence.headline is None or engines[0].variant in evidence.headline:
        return ""
    best = engines[0]
    return (
        f" Of the {len(engines)} engines {best.variant} has the highest goodput here ({number(best.goodput)} of that of"
        f" {best.base}); the comparison of every pair says what of that is shown."
    )


def find_claim(evidence: Evidence, c: Comparison) -> ClaimResult | None:
    """The registered claim on the goodput ratio of these two variants; one about all suites before one about some."""
    found = [
        judged
        for judged in evidence.claims
        if set(judged.claim.compare or ()) == {c.a, c.b}
        and judged.claim.metric == GOODPUT
        and judged.claim.expect.startswith("ratio")
    ]
    return min(found, key=lambda judged: bool(judged.claim.where), default=None)
