"""The main comparison by every measure: intervals, medians, what one suite left out changes, and the bootstrap."""

from collections.abc import Mapping

from ecrl.analysis.evidence import GOODPUT, Evidence
from ecrl.analysis.statistics.association import suite_model
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import Kind
from ecrl.analysis.threats.base import join_some
from ecrl.report.text.document import Block, Paragraph, Table
from ecrl.report.text.inference import describe_interval, describe_test, find_bca_disagreement
from ecrl.report.text.names import describe_averaged, label_suite
from ecrl.report.text.numbers import (
    NULLS,
    UNKNOWN,
    align,
    basis,
    count,
    estimate,
    has_interval,
    interval,
    number,
    p_value,
    spread,
)

_MOST_MISSING = 12  # blocks that are named
# Metrics that are 0 without failures.
_OF_FAILURES = frozenset({"replayed_steps", "lost_in_flight_steps", "wasted_s"})
_MEASURES: tuple[tuple[str, str, Kind], ...] = (
    (GOODPUT, "goodput (ratio)", "ratio"),
    ("goodput_steady_steps_per_s", "goodput less startup and shutdown (ratio)", "ratio"),
    ("wall_s", "wall-clock (ratio)", "ratio"),
    ("stall_s", "stall (s)", "difference"),
    ("interference_s", "interference (s)", "difference"),
    ("rewarm_s", "warm-up of first steps (s)", "difference"),
    ("replayed_steps", "replayed steps", "difference"),
    ("wasted_s", "wasted by failures (s)", "difference"),
)


def measure_blocks(evidence: Evidence, c: Comparison) -> list[Block]:
    """Every measure of the main comparison. c: of goodput."""
    if c.overall is None:
        reasons = sorted({reason for _, _, reason in c.missing})
        return [Paragraph(f"No block has both variants. {join_some(reasons)}".rstrip(".") + ".")]
    found = {title: evidence.compare(c.a, str(c.b), metric, kind) for metric, title, kind in _list_measures(evidence)}
    found = {title: one for title, one in found.items() if one.overall is not None}
    rows = tuple((title, *_format_measure(evidence, one)) for title, one in found.items())
    sign = f"{c.a} / {c.b} for ratios, {c.a} - {c.b} for differences"
    text = f"Paired per block ({sign}); 95 % {describe_interval(c)}; p from {describe_test(c)}, unadjusted."
    text += " As ratio: a difference on the log scale too, where both are positive in every block. BCa: the bootstrap"
    text += " interval; a claim that it leaves open is not decided."
    if averaged := describe_averaged(evidence):
        text += f" Over all values of {averaged} together."
    headers = ("measure", "mean [95 % CI]", "as ratio", "median", "one left out", "BCa", "basis", "p")
    blocks: list[Block] = [Paragraph(text), Table(headers, rows, frozenset({"measure", "basis"}))]
    blocks += _compare_with_bca(found)
    model = suite_model(c)
    if isinstance(model, str):
        text = (
            f"The spread between suites is {model} of a model with a random suite effect, not estimable: no interval."
        )
        blocks.append(Paragraph(text))
    elif model is not None:
        bounds = "{} [{}, {}]".format(
            *align((model.center, model.low, model.high), model.low, model.high, NULLS[c.kind])
        )
        blocks.append(
            Paragraph(
                f"A model with a random suite effect (REML, t interval with {model.df}"
                f" degrees of freedom) gives a goodput ratio of {bounds}: a check"
                f" that decides nothing. Spread between suites: {spread(model.between_sd)};"
                f" within: {spread(model.within_sd)}."
            )
        )
    if c.missing:
        names = [
            f"{label_suite(evidence, suite)}{'' if seed is None else f' seed {seed}'} ({why})"
            for suite, seed, why in c.missing
        ]
        text = f"Not in the comparison, {count(len(names), 'block')}: {join_some(names, _MOST_MISSING, '; ')}."
        blocks.append(Paragraph(text))
    return blocks


def _list_measures(evidence: Evidence) -> list[tuple[str, str, Kind]]:
    return [one for one in _MEASURES if evidence.plans_failures or one[0] not in _OF_FAILURES]


def _format_measure(evidence: Evidence, c: Comparison) -> tuple[str, ...]:
    ratio = evidence.compare(c.a, str(c.b), c.metric, "ratio") if c.kind == "difference" else None
    both = ratio is not None and len(ratio.pairs) == len(c.pairs)
    low, high = (c.overall.low, c.overall.high) if c.overall else (None, None)
    median, left = number(c.median), UNKNOWN
    if low is not None and high is not None and c.median is not None:
        median = align((c.median,), low, high, NULLS[c.kind])[0]
    if c.leave_one_out is not None:
        ends = (c.leave_one_out.low, c.leave_one_out.high)
        low, high = ends if low is None or high is None else (low, high)
        left = "{} to {}".format(*align(ends, low, high, NULLS[c.kind]))
    as_ratio = estimate(ratio) if ratio is not None and both else UNKNOWN
    return estimate(c), as_ratio, median, left, interval(*c.bca, NULLS[c.kind]), basis(c), p_value(c.p_value)


def _compare_with_bca(found: Mapping[str, Comparison]) -> list[Block]:
    """Where the t interval and the bootstrap disagree about "no effect", and in how many of the measures."""
    both = [title for title, c in found.items() if has_interval(c) and c.bca[0] is not None]
    apart = {title: said for title, c in found.items() if (said := find_bca_disagreement(c)) is not None}
    if not both:
        return []
    said = "".join(f"; {title}: {text}" for title, text in apart.items())
    text = "On whether no effect is excluded, the t interval and BCa disagree in"
    return [Paragraph(f"{text} {len(apart)} of {count(len(both), 'measure')}{said}.")]
