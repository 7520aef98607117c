"""Threats that lie in the design of a campaign: too few pairs, untested paths, short runs, late claims."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

from ecrl import plugins
from ecrl.analysis.campaign.variants import BLOCKING as BLOCKING_ENGINE
from ecrl.analysis.campaign.variants import list_recipes
from ecrl.analysis.run.metrics import REFERENCE, RunAnalysis
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.analysis.threats.base import (
    CampaignFacts,
    CheckRegistry,
    Threat,
    explain_no_manifest,
    format_count,
    join_some,
)

SHORT_RUN_SHARE = 0.10  # startup + shutdown of wall-clock
MIN_INTERVALS = 30
MIN_INTERVALS_A_FAILURE = 10  # M / tau; in real jobs failures are hours apart, and checkpoints minutes
NOT_KEPT_SHARE = 0.05  # of a run's checkpoints; if more are not kept, the run's costs cannot be compared

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness


def _see_always(_facts: CampaignFacts) -> str | None:
    return None


@_checks.register("n_pairs_lt_6", blocks=True, blind=_see_always)
def _check_few_pairs(facts: CampaignFacts) -> Iterable[Threat]:
    for a, b, c in _compare_every_pair(facts):
        if (n := len(c.pairs)) < MIN_PAIRS:
            text = f"{a}/{b}: {format_count(n, 'pair')}; below {MIN_PAIRS} no exact two-sided test can reach p = .05"
            yield Threat("n_pairs_lt_6", True, text, (a, b))


@_checks.register("one_seed", blocks=True, blind=_see_always)
def _check_one_seed(facts: CampaignFacts) -> Iterable[Threat]:
    seeds = facts.campaign.matrix.matrix.seeds
    if len(seeds) == 1:
        yield Threat("one_seed", True, f"every run has seed {seeds[0]}: nothing can be said about another")
        return
    for a, b, c in _compare_every_pair(facts):
        left = {pair.seed for pair in c.pairs}
        if len(left) == 1:
            text = f"{a}/{b}: every whole block has seed {left.pop()}: nothing can be said about another"
            yield Threat("one_seed", True, text, (a, b))


def _compare_every_pair(facts: CampaignFacts) -> Iterable[tuple[str, str, Comparison]]:
    for a, b in itertools.combinations(facts.campaign.matrix.matrix.variants, 2):
        yield a, b, compare(facts.rows, a, b, "goodput_steps_per_s", "ratio", facts.campaign.faults)


@_checks.register("claims_after_data", blocks=True)
def _check_late_claims(facts: CampaignFacts) -> Iterable[Threat]:
    if not facts.registered and facts.campaign.matrix.claims:
        late = list(facts.campaign.registration.late) or [
            r.label for r in facts.begun if r.facts["claims_hash"] != facts.campaign.matrix.claims_hash
        ]
        text = f"runs that began under other claims than the frozen ones ({len(late)}): {join_some(late)}"
        yield Threat("claims_after_data", True, text)


@_checks.register("registered_blocks_missing", blocks=True, blind=explain_no_manifest)
def _check_registered_blocks(facts: CampaignFacts) -> Iterable[Threat]:
    if gone := facts.campaign.registration.gone:
        text = f"registered, done, and not there ({len(gone)}): {join_some(gone)}"
        yield Threat("registered_blocks_missing", True, text)


@_checks.register("stray_runs", blocks=True, blind=_see_always)
def _check_stray_runs(facts: CampaignFacts) -> Iterable[Threat]:
    if stray := facts.campaign.registration.stray:
        yield Threat("stray_runs", True, f"run folders that no matrix registered ({len(stray)}): {join_some(stray)}")


@_checks.register("result_contradicts_events", blocks=True)
def _check_contradictions(facts: CampaignFacts) -> Iterable[Threat]:
    found = [f"{run.label} ({'; '.join(said)})" for run in facts.begun if (said := run.facts.get("contradictions"))]
    if found:
        text = f"results that their own events contradict ({len(found)}): {join_some(found)}"
        yield Threat("result_contradicts_events", True, text)


def explain_undigested(facts: CampaignFacts) -> str | None:
    """Why edits of events files cannot be seen, with the number of runs; None if they can."""
    older = [run for run in facts.begun if run.row["outcome"] in ("completed", "failed") and not run.facts["digested"]]
    return f"cannot be seen here for {format_count(len(older), 'run')}: recorded since 0.2" if older else None


@_checks.register("correctness_failed", blocks=True)
def _check_incorrect(facts: CampaignFacts) -> Iterable[Threat]:
    wrong: dict[str, list[str]] = {}
    for run in facts.begun:
        if run.row["correct"] is False:
            wrong.setdefault(run.row["variant"], []).append(run.label)
    for variant, labels in wrong.items():
        text = f"runs of {variant} that fail a correctness gate ({len(labels)}): {join_some(labels)}"
        yield Threat("correctness_failed", True, text, (variant,))


def _explain_no_checkpoints(facts: CampaignFacts) -> str | None:
    return None if any(run.row["checkpoints_requested"] for run in facts.begun) else "no run asked for a checkpoint"


@_checks.register("checkpoints_not_kept", blocks=True, blind=_explain_no_checkpoints)
def _check_not_kept(facts: CampaignFacts) -> Iterable[Threat]:
    """Runs that did not keep all requested checkpoints."""
    # an engine that keeps fewer checkpoints does less work than one that keeps all
    shares = {
        run.label: run.row["persist_failures"] / run.row["checkpoints_requested"]
        for run in facts.begun
        if run.row["persist_failures"] and run.row["checkpoints_requested"]
    }
    if shares:
        named = [f"{name} ({share:.0%})" for name, share in shares.items()]
        much = max(shares.values()) > NOT_KEPT_SHARE
        yield Threat(
            "checkpoints_not_kept", much, f"runs of which checkpoints failed ({len(shares)}): {join_some(named)}"
        )


@_checks.register("checkpoints_rerouted", blind=_explain_no_checkpoints)
def _check_rerouted(facts: CampaignFacts) -> Iterable[Threat]:
    """Runs whose checkpoints went to another disk than the others' (`checkpoint.fallback_dirs`)."""
    counts = {run.label: len(where) for run in facts.begun if (where := run.facts.get("checkpoints_rerouted"))}
    if counts:
        named = [f"{name} ({count})" for name, count in counts.items()]
        total = format_count(sum(counts.values()), "checkpoint")
        yield Threat(
            "checkpoints_rerouted",
            False,
            f"{total} went to a fallback, whose disk was measured instead, in {format_count(len(named), 'run')}:"
            f" {join_some(named)}",
        )


@_checks.register("checkpoints_vanished", blocks=True, blind=_explain_no_checkpoints)
def _check_vanished(facts: CampaignFacts) -> Iterable[Threat]:
    """Runs whose engine lost checkpoints without a word."""
    lost = [
        f"{run.label} ({run.row['checkpoints_vanished']} of {run.row['checkpoints_requested']})"
        for run in facts.begun
        if run.row["checkpoints_vanished"]
    ]
    if lost:
        why = "neither committed nor reported as lost, and no failure explains it"
        yield Threat(
            "checkpoints_vanished", True, f"checkpoints {why}, in {format_count(len(lost), 'run')}: {join_some(lost)}"
        )


@_checks.register("missing_blocks", blocks=True, blind=_see_always)
def _check_missing(facts: CampaignFacts) -> Iterable[Threat]:
    for pair in _list_compared_variants(facts):
        lost = {
            block: [run for run in own if run.row["variant"] in (*pair, REFERENCE)]
            for block, own in facts.blocks.items()
            if any(run.key in facts.campaign.faults for run in own if run.row["variant"] in pair)
        }
        if not lost:
            continue
        alone = Counter(next(iter(who)) for own in lost.values() if len(who := _find_failed_variants(own)) == 1)
        # What a failed reference leaves undecided is missing for both variants. Failures that strike both variants
        # alike leave as many blocks of the one as of the other.
        counts = [alone[variant] for variant in pair]
        least = min(counts) if len(pair) > 1 else 0
        one_sided = len(facts.campaign.matrix.matrix.variants) > 1 and max(counts) > least
        most = pair[counts.index(max(counts))]
        why = (
            f"only {most} is to blame for {alone[most]} of them, so they are not missing at random; "
            if one_sided
            else ""
        )
        names = [f"{facts.label(suite, f'seed{seed}')} ({facts.campaign.dropped[suite, seed]})" for suite, seed in lost]
        text = f"{'/'.join(pair)}: dropped blocks ({len(lost)}): {why}{join_some(names)}"
        yield Threat("missing_blocks", one_sided, text, pair)


def _list_compared_variants(facts: CampaignFacts) -> list[tuple[str, ...]]:
    """The variants of each claim and those somebody chose; if neither, those of the main comparison, or all."""
    asked = [*(claim.variants for claim in facts.campaign.matrix.claims), *([facts.chosen] if facts.chosen else [])]
    if asked:
        return list(dict.fromkeys(asked))
    pair = facts.main_pair
    return [pair or tuple(facts.campaign.matrix.matrix.variants)]


def _find_failed_variants(block: Sequence[RunAnalysis]) -> set[str]:
    """The variants that cause the drop of a block: those that did not complete or are wrong, else undecided ones."""
    # a failed reference leaves every other variant undecided, and those are not the cause
    wrong = {r.row["variant"] for r in block if r.row["outcome"] != "completed" or r.row["correct"] is False}
    return wrong or {run.row["variant"] for run in block if run.row["correct"] is not True}


def _explain_no_failures(facts: CampaignFacts) -> str | None:
    return None if any(run.row["failures_fired"] for run in facts.begun) else "no failure struck"


@_checks.register("replay_untested", blind=_explain_no_failures)
def _check_replay_untested(facts: CampaignFacts) -> Iterable[Threat]:
    for variant in facts.engines:
        done = [
            r for r in facts.rows if r["variant"] == variant and r["outcome"] == "completed" and r["failures_fired"]
        ]
        if done and not any(row["replayed_steps"] for row in done):
            evidence = f"no run of {variant} replayed a step, whatever the failure"
            yield Threat("replay_untested", False, f"{evidence}{_describe_boundaries(facts)}")


def _describe_boundaries(facts: CampaignFacts) -> str:
    places = [(at, s.checkpoint_every) for s in facts.campaign.suites for at in s.failure_steps]
    all_on = all(isinstance(at, int) and at % every == 0 for at, every in places)
    return ": every planned failure strikes on a checkpoint boundary" if all_on else ""


@_checks.register("inflight_untested", blind=_explain_no_failures)
def _check_inflight_untested(facts: CampaignFacts) -> Iterable[Threat]:
    engines = {variant: recipe.engine for variant, recipe in list_recipes(facts.campaign.matrix).items()}
    for variant in (variant for variant, engine in engines.items() if engine != BLOCKING_ENGINE):
        costs = [c for r in facts.begun if r.row["variant"] == variant for c in r.failures]
        if costs and not any(cost.in_flight for cost in costs):
            evidence = (
                f"none of {format_count(len(costs), 'failure')} of {variant} struck while a checkpoint was in flight"
            )
            yield Threat("inflight_untested", False, evidence)


@_checks.register("short_run", blind=_see_always)
def _check_short(facts: CampaignFacts) -> Iterable[Threat]:
    shares = {
        run.label: (run.row["startup_s"] + run.row["shutdown_s"]) / run.row["wall_s"]
        for run in facts.begun
        if run.row["startup_s"] is not None
    }
    long = [name for name, share in shares.items() if share > SHORT_RUN_SHARE]
    if long:
        worst = max(shares, key=lambda name: shares[name])
        share = f"{SHORT_RUN_SHARE * 100:.0f} % of wall-clock"
        evidence = f"startup and shutdown exceed {share} in {len(long)} of {format_count(len(shares), 'run')}"
        yield Threat("short_run", False, f"{evidence} ({shares[worst] * 100:.0f} % in {worst})")
    intervals = {s.suite_id: s.train.steps // s.checkpoint_every for s in facts.campaign.suites}
    few = [suite for suite, count in intervals.items() if count < MIN_INTERVALS]
    if few:
        fewest = min(intervals[suite] for suite in few)
        yield Threat(
            "short_run",
            False,
            f"suites with fewer than {MIN_INTERVALS} checkpoint intervals: {len(few)} (fewest: {fewest})",
        )
    per_failure = {
        s.suite_id: s.train.steps / s.checkpoint_every / len(s.failures) for s in facts.campaign.suites if s.failures
    }
    dense = [suite for suite, count in per_failure.items() if count < MIN_INTERVALS_A_FAILURE]
    if dense:
        least = min(per_failure[suite] for suite in dense)
        where = f"in {format_count(len(dense), 'suite')} failures strike every {least:.3g} intervals or so"
        yield Threat("short_run", False, f"{where}, far more often than on a real cluster: their cost is overweighted")


@_checks.register("single_interval", blind=_see_always)
def _check_single_interval(facts: CampaignFacts) -> Iterable[Threat]:
    values = facts.campaign.matrix.matrix.checkpoint_every
    if len(values) == 1:
        yield Threat("single_interval", False, f"checkpoint_every is {values[0]} everywhere")


@_checks.register("single_inflight", blind=_see_always)
def _check_single_inflight(facts: CampaignFacts) -> Iterable[Threat]:
    values = facts.campaign.matrix.matrix.max_inflight
    if len(values) == 1:
        yield Threat("single_inflight", False, f"max_inflight is {values[0]} everywhere")


@_checks.register("pooled_campaigns", blind=_see_always)
def _check_pooled(facts: CampaignFacts) -> Iterable[Threat]:
    found = facts.campaign
    if found.parts:
        names = ", ".join(part.prefix for part in found.parts)
        differing = f"; they differ: {'; '.join(found.mixed)}" if found.mixed else ""
        why = "runs added after a look at the first make chance findings likelier"
        yield Threat("pooled_campaigns", False, f"{names} are pooled: {why}{differing}")


@_checks.register("alike_suites", blind=_see_always)
def _check_alike(facts: CampaignFacts) -> Iterable[Threat]:
    for variants in _list_compared_variants(facts):
        works: dict[tuple[str, ...], dict[str, None]] = {}
        for (suite_id, _), own in facts.blocks.items():
            uses = {run.row["variant"]: run.row.get("uses", suite_id) for run in own}
            works.setdefault(tuple(uses[variant] for variant in variants if variant in uses), {})[suite_id] = None
        alike = [list(suites) for suites in works.values() if len(suites) > 1]
        if alike:
            named = join_some([" = ".join(suites) for suites in alike])
            yield Threat("alike_suites", False, f"{'/'.join(variants)}: the same work, counted as one suite: {named}")


@_checks.register("synthetic_data", blind=_see_always)
def _check_synthetic(facts: CampaignFacts) -> Iterable[Threat]:
    known = [name for name in facts.campaign.matrix.matrix.datasets if name in plugins.names("dataset")]
    used = [name for name in known if plugins.declared("dataset", name).get("synthetic")]
    if used:
        yield Threat("synthetic_data", False, f"{', '.join(used)} is made up: losses and convergence mean nothing")


@_checks.register("no_reference", blind=_see_always)
def _check_no_reference(facts: CampaignFacts) -> Iterable[Threat]:
    if REFERENCE not in facts.campaign.matrix.matrix.variants:
        evidence = "no reference variant: C4, C6, divergence and interference cannot be computed"
        yield Threat("no_reference", False, evidence)
