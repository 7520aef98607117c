"""Main quantitative results: goodput, wall, stall, divergence; the ranking; breakdowns."""

import math
import statistics

from ecrl.analysis.campaign.load import REPEAT_VARIANT
from ecrl.analysis.campaign.tables import build_summary_frame, geometric_mean, mean
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.run.metrics import REFERENCE, Row
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.report.text.by_suite import break_down, rank_suites
from ecrl.report.text.document import Block, Figures, Paragraph, Section, Subheading, Table
from ecrl.report.text.every_pair import compare_every_pair, compare_with_reference
from ecrl.report.text.measures import measure_blocks
from ecrl.report.text.names import suite_names
from ecrl.report.text.numbers import count, estimate, format_fixed, number, p_equals, spread


def _blocks(evidence: Evidence, figures: Figures) -> list[Block]:
    if not evidence.completed:
        return [Paragraph("No run completed, so there is no result.")]
    blocks: list[Block] = [*_levels(evidence), *compare_with_reference(evidence), *compare_every_pair(evidence)]
    if evidence.headline is None:
        return [*blocks, Paragraph("One variant only: there is nothing to compare it with.")]
    a, b = evidence.headline
    c = evidence.compare(a, b)
    blocks += [Subheading(f"{a} against {b}"), *measure_blocks(evidence, c)]
    if "ratios" in figures:
        blocks.append(figures["ratios"])
    if c.pairs:
        blocks += [
            Subheading(f"Workloads, from where {a} gains most to where it gains least"),
            rank_suites(evidence, c),
        ]
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
                number(geometric_mean(relative), 3),
                format_fixed(means[0]),
                format_fixed(means[1], 3),
                format_fixed(means[2], 3),
                format_fixed(means[3], 3),
                *(format_fixed(value, 1) for value in lost),
            )
        )
    counted = "runs" if evidence.source == "campaign" else "rows"
    headers = (
        "variant", counted, "goodput / reference", "wall (s)", "ETTR (reference steps)", "stall (s)",
        "interference (s)",
        *(("replayed steps", "lost in flight (steps)") if losses else ()),
    )  # fmt: skip
    text = f"Means {evidence.whole_basis}; every suite weighs the same."
    return [Paragraph(text), Table(headers, tuple(rows), frozenset({"variant"}))]


def _noise(evidence: Evidence) -> list[Block]:
    """The difference between two equal runs (A/A). Empty if no reference ran twice."""
    floor = evidence.noise
    if floor is None:
        return []
    c = floor.comparison
    again = [run.row for run in evidence.again if run.row["variant"] == REPEAT_VARIANT]
    ends = [row["d_end"] for row in again if row["d_end"] is not None]
    same = [row["c6"] for row in again if row["c6"] in ("pass", "fail")]
    names = suite_names(evidence.suites)
    # With few observations, the observations themselves are more informative than an interval.
    several = len(c.units) >= MIN_PAIRS
    each = ", ".join(f"{number(math.exp(pair.d))} ({names[pair.suite_id]})" for pair in c.pairs)
    shown = f"{estimate(c)} ({p_equals(c.p_value)})" if several else each
    least, most = map(spread, floor.sd_bounds)
    text = (
        f"{floor.arm} ran twice in {count(len(c.pairs), 'block')}: goodput again / first = {shown}. Single pairs of"
        f" equal runs differ by {spread(floor.sd)} (SD; {least} to {most} with 95 % confidence)."
        " An effect is held against the mean of as many such differences as it has blocks."
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
