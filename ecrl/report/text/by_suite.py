"""The main comparison by suite, and by every axis that has several values."""

from collections.abc import Collection

from ecrl.analysis.campaign.tables import geometric_mean, mean
from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.statistics.compare import Comparison, restrict
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.analysis.threats.base import join_some
from ecrl.report.text.document import Block, Paragraph, Subheading, Table
from ecrl.report.text.names import WORDS, axis_cells, axis_headers, format_value
from ecrl.report.text.numbers import UNKNOWN, basis, estimate, join_names, number, percents

# Names of the axes that every campaign has. A key of `[axes]` is its own name.
_FACTORS = {
    "dataset": "dataset",
    "model": "model",
    "failure_label": "failure schedule",
    "checkpoint_every": "checkpoint interval",
    "max_inflight": "checkpoints in flight",
    "launcher": "launcher",
}
_MOST_NAMED = 12
_RANKED = ("dataset", "model", "failure_label", "checkpoint_every")  # shown in the ranking even if they do not vary


def rank_suites(evidence: Evidence, c: Comparison) -> Table:
    """The suites in order of their ratio, the largest first."""
    suites = evidence.suites
    ordered = sorted(c.suites.items(), key=lambda item: (-item[1].center, item[0]))
    axes = dict.fromkeys((*_RANKED, *evidence.varying_axes))
    stalls = evidence.compare(c.a, str(c.b), "stall_s", "difference")
    rows = []
    for place, (suite_id, one) in enumerate(ordered, start=1):
        own = [pair for pair in c.pairs if pair.suite_id == suite_id]
        rows.append(
            (
                str(place),
                *axis_cells(suites[suite_id], axes),
                number(geometric_mean([pair.b for pair in own])),
                number(geometric_mean([pair.a for pair in own])),
                *percents(one),
                _describe_levels(restrict(stalls, {suite_id})),
                number(_compute_loss_difference(evidence, c, {suite_id})),
                str(one.n),
            )
        )
    levels = (f"{c.b} (steps/s)", f"{c.a} (steps/s)")
    rest = ("change", "95 % CI", f"stall (s), {c.b} → {c.a}", "loss difference", "pairs")
    return Table(("#", *axis_headers(axes), *levels, *rest), tuple(rows), WORDS)


def _describe_levels(c: Comparison) -> str:
    """The mean of the second variant and of the first, every suite with the same weight: '11.22 → 5.58'."""
    own = {suite_id: [pair for pair in c.pairs if pair.suite_id == suite_id] for suite_id in c.suites}
    levels = [mean([mean([getattr(pair, name) for pair in pairs]) for pairs in own.values()]) for name in ("b", "a")]
    return " → ".join(map(number, levels)) if own else UNKNOWN


def _compute_loss_difference(evidence: Evidence, c: Comparison, suites: Collection[str]) -> float | None:
    """The mean difference of the final loss over these suites; None if not known."""
    # A table made elsewhere may hold differences, but not the losses.
    one = restrict(evidence.compare(c.a, str(c.b), "final_loss", "difference"), suites).overall
    differences = evidence.loss_differences if (c.a, c.b) == (OVERLAPPED, BLOCKING) else {}
    told = [value for suite_id, value in differences.items() if suite_id in suites]
    return mean(told) if one is None else one.center


def break_down(evidence: Evidence, c: Comparison) -> list[Block]:
    """A table for every axis with several values, and a sentence that names the other axes."""
    dependent = [threat.evidence for threat in evidence.threats.found if threat.code == "interaction"]
    blocks: list[Block] = [Paragraph(f"**{text}.**") for text in dependent]
    alone = []
    for axis, values in evidence.factors.items():
        title = _FACTORS.get(axis, axis_headers([axis])[0])
        if len(values) > 1:
            blocks += [Subheading(f"By {title}"), *_breakdown(evidence, c, axis)]
        elif axis != "launcher" and values != (None,):  # a single launcher is normal and need not be named
            alone.append(f"{title} ({format_value(values[0])})")
    if alone:
        blocks.append(Paragraph(f"Nothing to break down by {join_names(alone)}: there is one each."))
    return blocks


def _breakdown(evidence: Evidence, c: Comparison, axis: str) -> list[Block]:
    """The main comparison for every value of an axis, over the suites with that value."""
    stalls = evidence.compare(c.a, str(c.b), "stall_s", "difference")
    table, small = [], []
    for value in evidence.factors[axis]:
        suites = {suite_id for suite_id, row in evidence.suites.items() if row[axis] == value}
        one = restrict(c, suites)
        small += [format_value(value)] if len(one.pairs) < MIN_PAIRS else []
        table.append(
            (
                format_value(value),
                estimate(one),
                UNKNOWN if one.overall is None else percents(one.overall)[0],
                _describe_levels(restrict(stalls, suites)),
                estimate(restrict(stalls, suites)),
                number(_compute_loss_difference(evidence, c, suites)),
                f"{one.suites_above} of {one.n_suites}",
                basis(one),
            )
        )
    header = _FACTORS.get(axis, axis_headers([axis])[0])
    others = (
        f"stall (s), {c.b} → {c.a}",
        "stall difference (s)",
        "loss difference",
        f"suites with {c.a} above",
        "basis",
    )
    headers = (header, "ratio [95 % CI]", "change", *others)
    blocks: list[Block] = [Table(headers, tuple(table), frozenset({header, "basis"}))]
    if small:
        named = join_names(small) if len(small) <= _MOST_NAMED else join_some(small, _MOST_NAMED)
        text = f"Below {MIN_PAIRS} pairs ({header} {named}): a description, no verdict."
        blocks.append(Paragraph(text))
    return blocks
