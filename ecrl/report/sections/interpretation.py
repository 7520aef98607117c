"""Interpretation: sentences that the numbers support. A sentence without support is omitted."""

import math
import statistics
from collections.abc import Mapping

from scipy import stats

from ecrl.analysis.campaign.tables import mean
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import REFERENCE, get_run_key
from ecrl.analysis.statistics.association import rank_correlation
from ecrl.analysis.statistics.compare import Comparison, Effect, compare
from ecrl.analysis.statistics.estimate import Estimand
from ecrl.analysis.statistics.intervals import ALPHA, MIN_PAIRS
from ecrl.records.columns import LEDGER_BUCKETS
from ecrl.report.text.document import Block, Bullets, Figures, Paragraph, Section
from ecrl.report.text.inference import describe_least, describe_left_out, describe_test, is_shown
from ecrl.report.text.names import describe_averaged, format_part
from ecrl.report.text.numbers import (
    align,
    basis,
    count,
    disagreement,
    estimate,
    format_fixed,
    has_interval,
    interval,
    join_names,
    number,
    p_equals,
    percents,
)

_POPULATIONS: Mapping[Estimand, str] = {
    "suite": "for this one suite",
    "these suites": "for these suites",
    "workloads": "for workloads of which these suites are a sample",
}


def _blocks(evidence: Evidence, _figures: Figures) -> list[Block]:
    if not evidence.completed:
        return [Paragraph("No run completed: there is nothing to interpret.")]
    if flaws := evidence.threats.flaws:
        codes = join_names(f"`{code}`" for code in dict.fromkeys(threat.code for threat in flaws))
        return [Paragraph(f"Nothing here is called a gain or a loss: the numbers cannot be right ({codes}, below).")]
    sentences = [*_scope(evidence)]
    if evidence.headline is not None:
        sentences += [*_list_reservations(evidence, *evidence.headline), *effects(evidence.compare(*evidence.headline))]
        sentences += [*stalls(evidence, *evidence.headline), *_largest_part(evidence, *evidence.headline)]
    sentences += [*_cost(evidence), *_describe_lost_work(evidence), *_exactness(evidence)]
    return [Bullets(tuple(sentences))] if sentences else [Paragraph("The numbers support no sentence.")]


def _scope(evidence: Evidence) -> list[str]:
    """Sentences with the limits of the evidence."""
    found = []
    if len(evidence.seeds) == 1:
        found.append(f"All runs share one seed ({evidence.seeds[0]}): nothing here speaks of other seeds.")
    suites = len(evidence.suites)
    if suites < 3:
        found.append(f"{count(suites, 'suite')} cannot show how an effect varies between workloads.")
    if averaged := describe_averaged(evidence):
        found.append(f"What follows is over all values of {averaged} together; the tables above tell them apart.")
    return found


def _list_reservations(evidence: Evidence, a: str, b: str) -> list[str]:
    """A sentence on what keeps a gain or loss of these variants from being a finding, whatever its interval."""
    codes = dict.fromkeys(f"`{threat.code}`" for threat in evidence.threats.find_blocking((a, b)))
    why = [f"{join_names(codes)} block{'s' if len(codes) == 1 else ''} every claim about {a} and {b}"] if codes else []
    if pending := len(evidence.registration.pending):
        why.append(f"{count(pending, 'registered block')} {'is' if pending == 1 else 'are'} not done")
    if (looks := evidence.looks) > 1:
        why.append(f"there were {looks} looks, and the intervals and p below are right for one")
    return [f"{'; '.join(why)}: what follows describes these runs and decides nothing."] if why else []


def effects(c: Comparison) -> list[str]:
    """Sentences on the goodput of the main comparison."""
    if c.overall is None:
        return []
    a, b = c.a, c.b
    change, ends = percents(c.overall)
    head = f"On average {a} reaches {estimate(c)} times the goodput of {b} ({change}, {basis(c)})"
    if len(c.pairs) < MIN_PAIRS:
        return [
            f"{head}. This is a direction, not a finding: {MIN_PAIRS} pairs are the least that could show an effect."
        ]
    if not has_interval(c):
        return [f"{head}."]
    if said := disagreement(c, 1.0):
        return [f"{head}. {said}; a difference that only one of them shows is not shown."]
    p = f"{p_equals(c.p_value)}, {describe_test(c)}"
    if not is_shown(c):
        text = f"the interval {ends} includes no change ({p}), so no difference is shown; {describe_least(c)}"
        return [f"{head}; {text}.", *_describe_consistency(c)]
    noun = "gain" if c.overall.center > 1 else "loss"
    text = f"{head}; interval and test ({p}) both exclude 1: a {noun} larger than its standard error allows for chance"
    return [f"{text}, {_POPULATIONS[c.estimand]}.", *_describe_consistency(c)]


def _describe_consistency(c: Comparison) -> list[str]:
    """Sentences on the suites one by one, and on the one that weighs most. The first needs MIN_PAIRS suites."""
    found = [said] if (said := describe_left_out(c)) is not None else []
    k, n = c.suites_above, c.n_suites
    if n < MIN_PAIRS:
        return found
    p = float(stats.binomtest(k, n).pvalue)
    each = "each suite has one observation" if len(c.pairs) == n else "each suite counts once, by its mean"
    text = f"{c.a} is above {c.b} in {k} of {n} suites ({each}; exact sign test {p_equals(p)})"
    mixed = ": suite by suite the picture is mixed" if p > ALPHA else ""
    return [f"{text}{mixed}.", *found]


def stalls(evidence: Evidence, a: str, b: str) -> list[str]:
    """Sentences that compare the stall with the wall-clock that `a` saves against `b`.

    Other differences are listed separately, each with its interval.
    """
    # Stall is not the whole cost of overlapping. Each difference has its own noise, so none is given as a share of the
    # saved stall.
    stall, wall = evidence.compare(a, b, "stall_s", "difference"), evidence.compare(a, b, "wall_s", "difference")
    if stall.overall is None:
        return []
    if wall.overall is None:
        saved = -stall.overall.center
        text = f"{a} stalls {format_fixed(abs(saved))} s {'less' if saved >= 0 else 'more'} per run than {b}."
        return [text, *_relate_stall_to_goodput(stall, evidence.compare(a, b))]
    text = (
        f"{a} stalls {_describe_difference(stall.overall, 'more', 'less')} per run than {b}, and its wall-clock is"
        f" {_describe_difference(wall.overall, 'longer', 'shorter')}."
    )
    # A campaign has ledgers, which tell the gain by its cause.
    reached = describe_reached(stall, wall) if evidence.source == "table" else []
    return [text, *reached, *_other_differences(evidence, a, b), *explain_stall(stall, wall)]


def describe_reached(stall: Comparison, wall: Comparison) -> list[str]:
    """A sentence on how much of the saved stall is saved wall-clock, over the blocks with both. Empty without any."""
    walls = {(pair.suite_id, pair.seed): pair.d for pair in wall.pairs}
    both = [(-pair.d, -walls[key]) for pair in stall.pairs if (key := (pair.suite_id, pair.seed)) in walls]
    if not both:
        return []
    stall_s, wall_s = (math.fsum(values) / len(both) for values in zip(*both, strict=True))
    if stall_s <= 0:
        return []
    if wall_s <= 0:
        return [f"None of the {format_fixed(stall_s)} s of saved stall reaches wall-clock."]
    if wall_s > stall_s:
        return [f"More wall-clock than stall is saved ({format_fixed(wall_s)} s and {format_fixed(stall_s)} s)."]
    reach = f"{format_fixed(wall_s)} s of {format_fixed(stall_s)} s saved stall reach wall-clock"
    text = f"{reach} ({wall_s / stall_s * 100:.0f} %), over {count(len(both), 'row')}"
    return [f"{text}; wall-clock is steps / goodput where the table has none."]


def _relate_stall_to_goodput(stall: Comparison, goodput: Comparison) -> list[str]:
    """Sentences on the stall saved and the goodput gained where no wall-clock is known."""
    ratios = {(pair.suite_id, pair.seed): pair for pair in goodput.pairs}
    both = [(-one.d, ratios[key]) for one in stall.pairs if (key := (one.suite_id, one.seed)) in ratios]
    found = rank_correlation([saved_s for saved_s, _ in both], [pair.d for _, pair in both])
    said = []
    if found is not None:
        exact = "exact " if found.exact else ""
        text = f"rho = {number(found.rho, 2)} over {count(found.n, 'row')}, {exact}{p_equals(found.p)}"
        shown = "No association is shown" if found.p > ALPHA else "There is an association"
        said.append(f"{shown} between the stall saved and the logarithm of the goodput ratio (Spearman's {text}).")
    # wall-clock = steps / goodput, so a run of n steps saves n (1 / b - 1 / a) seconds
    steps = sorted(saved_s / (1 / pair.b - 1 / pair.a) for saved_s, pair in both if saved_s > 0 and pair.a > pair.b)
    if steps:
        middle = f" (median {statistics.median(steps):,.0f})" if len(steps) > 1 else ""
        span = f"{steps[0]:,.0f}" + (f" to {steps[-1]:,.0f}" if len(steps) > 1 else "")
        said.append(
            f"Steps per run are not known. All saved stall would show only at {span} steps a run{middle}, in"
            f" {count(len(steps), 'row')} of {len(both)} with less stall and more goodput."
        )
    return said


def _other_differences(evidence: Evidence, a: str, b: str) -> list[str]:
    """Sentences on differences in steps, warm-up and replay: those whose interval excludes 0, then the others."""
    parts = {"steps": "interference_s"}
    parts |= {"warm-up": "rewarm_s", "replay": "replay_s"} if evidence.plans_failures else {}
    # The bucket `replay` holds the warm-up of a replayed first step. The other variant may have replayed none, and has
    # warmed up all the same.
    rows = [
        row | {"replay_s": row["replay_s"] - evidence.replayed_warm_ups_s.get(get_run_key(row), 0.0)}
        for row in evidence.rows
        if row["replay_s"] is not None
    ]
    found = {noun: compare(rows, a, b, metric, "difference", evidence.faults).overall for noun, metric in parts.items()}
    known = {noun: one for noun, one in found.items() if one is not None and one.low is not None}
    if not known:
        return [f"These runs are too few to tell whether {' or '.join(parts)} took longer."]
    apart = [noun for noun, one in known.items() if _excludes_0(one)]
    sentences = []
    if apart:
        took = " and ".join(f"{noun} took {_describe_difference(known[noun], 'more', 'less')}" for noun in apart)
        sentences.append(f"Beside that, {took} per run in {a} than in {b}.")
    if rest := [noun for noun in known if noun not in apart]:
        bounds = ", ".join(f"{noun} {interval(known[noun].low, known[noun].high, 0.0)} s" for noun in rest)
        sentences.append(f"No difference is shown in what {join_names(rest)} took ({a} - {b}: {bounds}).")
    return sentences


def _excludes_0(one: Effect) -> bool:
    return one.low is not None and one.high is not None and (one.low > 0 or one.high < 0)


def _describe_difference(one: Effect, more: str, less: str) -> str:
    """A difference in seconds with a word for its sign and the signed interval: '3.81 s less [-5, -2.6]'."""
    word = more if one.center > 0 else less
    if one.low is None or one.high is None:
        return f"{format_fixed(abs(one.center))} s {word}"
    size = align((abs(one.center),), one.low, one.high, 0.0)[0]
    return f"{size} s {word} {interval(one.low, one.high, 0.0)}"


def explain_stall(stall: Comparison, wall: Comparison) -> list[str]:
    """A sentence on the association between saved stall and saved wall-clock over suites. Empty if unknown.

    Of one suite: over its blocks.
    """
    stalls, walls = _list_units(stall), _list_units(wall)
    both = [key for key in stalls if key in walls]
    found = rank_correlation([stalls[key] for key in both], [walls[key] for key in both])
    if found is None:
        return []
    exact = "exact " if found.exact else ""
    unit = "block" if stall.n_suites == 1 else "suite"
    text = f"Spearman's rho = {number(found.rho, 2)} over {found.n} {unit}s, {exact}{p_equals(found.p)}"
    if found.p > ALPHA:
        return [f"No association is shown between the stall and the wall-clock that a {unit} saves ({text})."]
    return [
        f"{unit.capitalize()}s that save more stall save {'more' if found.rho > 0 else 'less'} wall-clock ({text})."
    ]


def _list_units(c: Comparison) -> dict[object, float]:
    """The mean of d of every suite; of one suite, d of every block."""
    # What two suites differ by shows in all of their blocks, so blocks of several suites are not independent.
    if c.n_suites == 1:
        return {pair.seed: pair.d for pair in c.pairs}
    return {suite_id: one.center for suite_id, one in c.suites.items()}


def _largest_part(evidence: Evidence, a: str, b: str) -> list[str]:
    """A sentence that names the ledger bucket in which the two variants differ most."""
    # Often it is a bucket that checkpointing does not influence; the sentence then says so.
    found = {}
    for bucket in LEDGER_BUCKETS:
        effect = evidence.compare(a, b, f"{bucket}_s", "difference").overall
        if effect is not None:
            found[bucket] = effect
    if not any(one.center for one in found.values()):
        return []
    bucket = max(found, key=lambda name: abs(found[name].center))
    difference = _describe_difference(found[bucket], "more", "less")
    text = f"The ledgers of {a} and {b} differ most in {format_part(bucket)}: {difference} per run in {a}"
    if not _excludes_0(found[bucket]):
        return [f"{text}, which these runs do not tell from 0."]
    outside = bucket in ("startup", "detect", "restart", "shutdown", "other")
    return [f"{text}{', which no checkpoint engine decides' if outside else ''}."]


def _cost(evidence: Evidence) -> list[str]:
    if REFERENCE not in evidence.variants:
        return []
    found = []
    for variant in evidence.engines:
        c = evidence.compare(variant, REFERENCE)
        if c.overall is None:
            continue
        what = "checkpoints and failures" if evidence.plans_failures else "checkpoints"
        found.append(f"With {what} {_describe_kept(variant, c)} ({basis(c)}).")
    return found


def _describe_kept(variant: str, c: Comparison) -> str:
    """What a variant keeps of the reference's goodput: 'overlapped keeps at most 0.96 (0.95 [0.94, 0.96])'."""
    assert c.overall is not None
    if not is_shown(c):
        least = "" if len(c.pairs) < MIN_PAIRS else f"; no cost is shown, {describe_least(c)}"
        return f"{variant} has {estimate(c)} times the reference's goodput{least}"
    if c.overall.center > 1:
        why = "nothing that checkpoints do explains that, so the two runs differ in something else"
        return f"{variant} has {estimate(c)} times the reference's goodput: {why}"
    assert c.overall.low is not None
    assert c.overall.high is not None
    most = align((c.overall.high,), c.overall.low, c.overall.high, 1.0)[0]
    return f"{variant} keeps {estimate(c)} of the reference's goodput: at most {most}, the upper end of the interval"


def _describe_lost_work(evidence: Evidence) -> list[str]:
    found = []
    for variant in evidence.engines:
        own = [r for r in evidence.whole if r["variant"] == variant and r["failures_fired"]]
        known = [row for row in own if row["lost_in_flight_steps"] is not None]
        if not known:
            continue
        failures = sum(row["failures_fired"] for row in known)
        interval_steps = sum(row["lost_interval_steps"] for row in known) / failures
        in_flight = sum(row["lost_in_flight_steps"] for row in known) / failures
        found.append(
            f"A failure costs {variant} {number(interval_steps)} steps lost to the interval and {number(in_flight)}"
            f" lost in flight ({count(failures, 'failure')} {evidence.whole_basis})."
        )
    return found


def _exactness(evidence: Evidence) -> list[str]:
    found = []
    for variant in evidence.engines:
        decided = [r["c6"] for r in evidence.completed if r["variant"] == variant and r["c6"] in ("pass", "fail")]
        if decided:
            same = decided.count("pass")
            found.append(f"{variant} ends bit-identical to its reference in {same} of {count(len(decided), 'run')}.")
        else:
            d = mean([r["d_end"] for r in evidence.completed if r["variant"] == variant])
            if d is not None:
                found.append(
                    f"{variant} ends {number(d)} from its reference's loss on average; bit-identity does not apply."
                )
    return found


PLUGIN = Section(50, "Interpretation", _blocks)
