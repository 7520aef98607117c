"""Main quantitative results: goodput, wall, stall, divergence; the ranking; breakdowns."""

import math
import statistics

from ecrl.analysis.campaign.tables import build_summary_frame, geometric_mean, mean
from ecrl.analysis.evidence import GOODPUT, Evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.run.metrics import REFERENCE, Row
from ecrl.analysis.statistics.association import suite_model
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import MIN_PAIRS, Kind
from ecrl.report.text.by_suite import break_down, rank_suites
from ecrl.report.text.document import Block, Figures, Paragraph, Section, Subheading, Table
from ecrl.report.text.names import (
    describe_averaged,
    label_suite,
    suite_names,
)
from ecrl.report.text.numbers import (
    basis,
    count,
    effect,
    format_fixed,
    interval,
    number,
    p_equals,
    p_value,
    percent,
    spread,
)

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


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    if not evidence.completed:
        return [Paragraph("No run completed, so there is no result.")]
    blocks: list[Block] = [*_levels(evidence), *_reference_comparison(evidence)]
    if evidence.headline is None:
        return [*blocks, Paragraph("One variant only: there is nothing to compare it with.")]
    a, b = evidence.headline
    c = evidence.compare(a, b)
    blocks += [Subheading(f"{a} against {b}"), *_headline(evidence, c)]
    if "ratios" in figures:
        blocks.append(figures["ratios"])
    if c.pairs:
        blocks += [Subheading("Ranking of suites"), rank_suites(evidence, c)]
        blocks += break_down(evidence, c)
    blocks += _noise(evidence)
    blocks += _divergence(evidence)
    if "losses" in figures:
        blocks.append(figures["losses"])
    if "stall_gain" in figures:
        blocks.append(figures["stall_gain"])
    return blocks


def _levels(evidence: Evidence) -> list[Block]:
    """The metrics of every arm, with equal weight for every suite.

    Raw steps/s of different suites are never pooled. Only whole blocks count, so all arms rest on the same blocks.
    """
    rows = []
    summary = to_rows(build_summary_frame(build_runs_frame(evidence.whole, evidence.axes), evidence.axes))
    losses = ("replayed_steps", "lost_in_flight_steps") if evidence.plans_failures else ()
    for arm in evidence.arms:
        own = [row for row in evidence.whole if arm.holds(row)]
        per_suite = [row for row in summary if arm.holds(row)]
        relative = [row["rel_goodput"] for row in per_suite if row["rel_goodput"]]
        means = [mean([row[c] for row in per_suite]) for c in ("wall_s", "ettr_ref", "stall_s", "interference_s")]
        lost = [mean([row[c] for row in per_suite]) for c in losses]
        rows.append(
            (
                str(arm),
                str(len(own)),
                number(geometric_mean(relative)),
                format_fixed(means[0]),
                format_fixed(means[1], 3),
                format_fixed(means[2], 3),
                format_fixed(means[3], 3),
                *(format_fixed(value, 1) for value in lost),
            )
        )
    headers = (
        "variant", "runs", "goodput / reference", "wall (s)", "ETTR (reference steps)", "stall (s)", "interference (s)",
        *(("replayed steps", "lost in flight (steps)") if losses else ()),
    )  # fmt: skip
    text = f"Means {evidence.whole_basis}; every suite weighs the same."
    return [Paragraph(text), Table(headers, tuple(rows), frozenset({"variant"}))]


def _reference_comparison(evidence: Evidence) -> list[Block]:
    if REFERENCE not in evidence.variants:
        what = "checkpointing and failures themselves" if evidence.plans_failures else "checkpointing itself"
        return [Paragraph(f"No reference: the cost of {what} cannot be stated.")]
    if not evidence.engines:
        return []
    rows = []
    for variant in evidence.engines:
        c = evidence.compare(variant, REFERENCE)
        center = c.overall.center if c.overall else None
        rows.append((f"{variant} / reference", effect(c.overall), percent(center), basis(c), p_value(c.p_value)))
    headers = ("goodput ratio", "mean [95 % CI]", "change", "basis", "p (sign-flip)")
    return [Table(headers, tuple(rows), frozenset({"goodput ratio", "basis"}))]


def _headline(evidence: Evidence, c: Comparison) -> list[Block]:
    if c.overall is None:
        reasons = sorted({reason for _, _, reason in c.missing})
        return [Paragraph(f"No block has both variants. {'; '.join(reasons)}".rstrip(".") + ".")]
    rows = []
    for metric, title, kind in _MEASURES:
        if metric in _OF_FAILURES and not evidence.plans_failures:
            continue
        scale: Kind = "ratio" if kind == "ratio" else "difference"
        one = c if metric == GOODPUT else evidence.compare(c.a, str(c.b), metric, scale)
        if one.overall is not None:
            rows.append((title, effect(one.overall), interval(*one.bca), basis(one), p_value(one.p_value)))
    sign = f"{c.a} / {c.b} for ratios, {c.a} - {c.b} for differences"
    unit = "suite means" if c.unit == "suites" else "blocks"
    text = f"Paired per block ({sign}); 95 % t intervals over {unit}; p from the exact sign-flip test, unadjusted."
    text += " BCa: the bootstrap interval, a check on the t interval that decides nothing."
    if averaged := describe_averaged(evidence):
        text += f" Over all values of {averaged} together."
    headers = ("measure", "mean [95 % CI]", "BCa", "basis", "p")
    blocks: list[Block] = [Paragraph(text), Table(headers, tuple(rows), frozenset({"measure", "basis"}))]
    model = suite_model(c)
    if isinstance(model, str):
        text = (
            f"The spread between suites is {model} of a model with a random suite effect, not estimable: no interval."
        )
        blocks.append(Paragraph(text))
    elif model is not None:
        bounds = f"{number(model.center)} [{number(model.low)}, {number(model.high)}]"
        blocks.append(
            Paragraph(
                f"A model with a random suite effect (REML, t interval with {model.df}"
                f" degrees of freedom) gives a goodput ratio of {bounds}: a check"
                f" that decides nothing. Spread between suites: {spread(model.between_sd)};"
                f" within: {spread(model.within_sd)}."
            )
        )
    if c.missing:
        names = "; ".join(
            f"{label_suite(evidence, suite)}{'' if seed is None else f' seed {seed}'} ({why})"
            for suite, seed, why in c.missing
        )
        blocks.append(Paragraph(f"Not in the comparison, {count(len(c.missing), 'block')}: {names}."))
    return blocks


def _noise(evidence: Evidence) -> list[Block]:
    """The difference between two equal runs (A/A). Empty if no reference ran twice."""
    floor = evidence.noise
    if floor is None:
        return []
    c = floor.comparison
    ends = [run.row["d_end"] for run in evidence.again if run.row["d_end"] is not None]
    same = [run.row["c6"] for run in evidence.again if run.row["c6"] in ("pass", "fail")]
    names = suite_names(evidence.suites)
    # With few observations, the observations themselves are more informative than an interval.
    several = len(c.units) >= MIN_PAIRS
    each = ", ".join(f"{number(math.exp(pair.d))} ({names[pair.suite_id]})" for pair in c.pairs)
    shown = f"{effect(c.overall)} ({p_equals(c.p_value)})" if several else each
    text = (
        f"The reference ran twice in {count(len(c.pairs), 'block')}: goodput again / first = {shown}."
        f" Two equal runs differ by {spread(floor.sd)} (SD); an effect no larger than that is noise."
    )
    if several and c.overall is not None and c.overall.low is not None and c.overall.high is not None:
        fair = c.overall.low <= 1 <= c.overall.high
        text += (
            "" if fair else " **The interval excludes 1: equal runs are told apart, so intervals here are too short.**"
        )
    if same:
        text += f" {same.count('pass')} of {len(same)} ended with the same state"
        apart = f"losses at most {number(max(ends))} apart at the end" if ends and max(ends) else "and the same losses"
        text += f", {apart}." if ends else "."
    return [Subheading("Noise (A/A)"), Paragraph(text)]


def _divergence(evidence: Evidence) -> list[Block]:
    blocks: list[Block] = [Subheading("Divergence")]
    own = [row for row in evidence.completed if row["variant"] != REFERENCE and row["d_max"] is not None]
    if own:
        rows = []
        for variant in evidence.engines:
            mine = [row for row in own if row["variant"] == variant]
            same = sum(row["first_divergent_step"] is None for row in mine)
            cells = [number(_largest(mine, column)) for column in ("d_end", "d_max", "d_rms")]
            agreement = [number(mean([row["replay_agreement"] for row in mine]))] if evidence.plans_failures else []
            rows.append((variant, str(len(mine)), str(same), *cells, *agreement))
        last = ("replay agreement",) if evidence.plans_failures else ()
        headers = ("variant", "runs", "bit-identical losses", "max d_end", "max d_max", "max d_rms", *last)
        blocks.append(Table(headers, tuple(rows), frozenset({"variant"})))
        blocks.append(
            Paragraph("Absolute differences of the loss from the same block's reference, last execution of every step.")
        )
    elif evidence.loss_differences:
        values = list(evidence.loss_differences.values())
        text = (
            f"Final loss, overlapped - blocking, signed: mean {number(mean(values))}, mean absolute"
            f" {number(mean([abs(v) for v in values]))}, from {number(min(values))} to {number(max(values))} over"
            f" {count(len(values), 'suite')}. The level against a reference is not known."
        )
        blocks.append(Paragraph(text))
    else:
        blocks.append(Paragraph("No loss can be compared with a reference."))
    margins = _loss_margins(evidence)
    if margins and not evidence.train.get("deterministic"):
        text = "For the next campaign, as a margin is to be fixed before its runs: half the SD of the reference's final"
        text += " loss over seeds, for claims of equal loss"
        blocks.append(Paragraph(f"{text}: {number(mean(margins))} (mean over {count(len(margins), 'suite')})."))
    return blocks


def _loss_margins(evidence: Evidence) -> list[float]:
    """Half the standard deviation of the reference's final loss, per suite with two or more such losses.

    docs/metrics.md, "Divergence". Deterministic campaigns use gate C6 instead.
    """
    losses: dict[str, list[float]] = {}
    for row in evidence.completed:
        if row["variant"] == REFERENCE and row["final_loss"] is not None:
            losses.setdefault(row["suite_id"], []).append(row["final_loss"])
    return [0.5 * statistics.stdev(own) for own in losses.values() if len(own) > 1]


def _largest(rows: list[Row], column: str) -> float | None:
    return max((row[column] for row in rows if row[column] is not None), default=None)


PLUGIN = Section(30, "Main quantitative results", _blocks)
