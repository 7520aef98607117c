"""Goodput against the reference, and of every two engines against each other."""

from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.pairwise import compare_pairs
from ecrl.report.text.document import Block, Paragraph, Subheading, Table
from ecrl.report.text.inference import describe_test
from ecrl.report.text.numbers import UNKNOWN, basis, count, estimate, p_equals, p_value, percents


def compare_with_reference(evidence: Evidence) -> list[Block]:
    """The goodput of every engine against the reference's."""
    if REFERENCE not in evidence.variants:
        what = "checkpointing and failures themselves" if evidence.plans_failures else "checkpointing itself"
        return [Paragraph(f"No reference: the cost of {what} cannot be stated.")]
    if not evidence.engines:
        return []
    rows = []
    for variant in evidence.engines:
        c = evidence.compare(variant, REFERENCE)
        change = UNKNOWN if c.overall is None else percents(c.overall)[0]
        rows.append((f"{variant} / reference", estimate(c), change, basis(c), p_value(c.p_value), describe_test(c)))
    headers = ("goodput ratio", "mean [95 % CI]", "change", "basis", "p", "test")
    return [Table(headers, tuple(rows), frozenset({"goodput ratio", "basis", "test"}))]


def compare_every_pair(evidence: Evidence) -> list[Block]:
    """The goodput ratio of every two engines. Empty for two engines: that is the main comparison."""
    if len(evidence.engines) < 3:
        return []
    pairs = compare_pairs(evidence.engines, evidence.compare)
    rows = []
    for i, a in enumerate(evidence.engines):
        found = [pairs[a, b] for b in evidence.engines[:i]]
        cells = (f"{estimate(c)}, {p_equals(p)}" if c.overall is not None else UNKNOWN for c, p in found)
        rows.append((a, *cells, *([""] * (len(evidence.engines) - 1 - i))))
    headers = ("goodput", *(f"/ {b}" for b in evidence.engines[:-1]))
    several = next(c for c, _ in pairs.values())
    text = (
        f"Row / column: mean [95 % CI], and p after Holm over the {count(len(pairs), 'pair')} of engines"
        f" ({describe_test(several)})."
    )
    return [
        Subheading("Every pair of engines"),
        Paragraph(text),
        Table(headers, tuple(rows[1:]), frozenset({"goodput"})),
    ]
