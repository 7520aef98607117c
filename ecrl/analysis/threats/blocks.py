"""Threats from within blocks: the order and the sessions of their runs, and the failures that these met."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence

from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.analysis.run.timeline import NS_PER_S
from ecrl.analysis.statistics.association import fit_slope
from ecrl.analysis.threats.base import CampaignFacts, CheckRegistry, Threat, explain_unbegun, format_count, join_some

SESSION_GAP_NS = 60 * NS_PER_S  # between two runs of a block; a shorter gap is a slow disk or a short pause
MIN_BLOCKS = 3

_checks = CheckRegistry()
CHECKS, BLOCKING, BLINDNESS = _checks.by_code, _checks.blocking, _checks.blindness


def _explain_few_blocks(facts: CampaignFacts) -> str | None:
    blocks = {(run.row["suite_id"], run.row["seed"]) for run in facts.begun}
    if len(facts.campaign.matrix.matrix.variants) == 1:
        return "one variant"
    return None if len(blocks) >= MIN_BLOCKS else f"{format_count(len(blocks), 'block')}: three are needed"


@_checks.register("not_interleaved", blocks=True, blind=_explain_few_blocks)
def _check_not_interleaved(facts: CampaignFacts) -> Iterable[Threat]:
    orders = {run.facts["block_order"] for run in facts.begun if run.facts.get("block_order")}
    blocks = len({(run.row["suite_id"], run.row["seed"]) for run in facts.begun})
    if len(orders) == 1 and blocks >= MIN_BLOCKS and len(next(iter(orders))) > 1:
        order = ", ".join(next(iter(orders)))
        yield Threat(
            "not_interleaved", True, f"all {blocks} blocks ran in one order ({order}): drift favours a variant"
        )
    else:
        yield from _find_unbalanced_pairs(facts)
    yield from _find_torn_blocks(facts)


def _find_unbalanced_pairs(facts: CampaignFacts) -> Iterable[Threat]:
    """The pairs whose effect a drift could have made, since one of them ran later than the other too often."""
    blocks = [{run.row["variant"]: run for run in block if _is_whole(facts, run)} for block in facts.blocks.values()]
    variants = facts.campaign.matrix.matrix.variants
    for a, b in itertools.combinations(variants, 2):
        pairs = [(block[a], block[b]) for block in blocks if a in block and b in block]
        seen = [found for pair in pairs if (found := _compare_places(*pair, variants)) is not None]
        if len(seen) < MIN_BLOCKS:
            continue
        later, d = [places for places, _ in seen], [one for _, one in seen]
        # What the balanced order of as many blocks may leave: see `BalancedDealer`.
        if abs(sum(later)) > len(variants) - 1 and (text := _explain_drift(later, d)) is not None:
            yield Threat("not_interleaved", True, f"{a} / {b}: {text}", (a, b))


def _compare_places(a: RunAnalysis, b: RunAnalysis, variants: Sequence[str]) -> tuple[int, float] | None:
    """How many places the first run of a block came after the second, and the log ratio of their goodputs.

    None if either is not known. A/A repeats take no place: each stands at random, in the first block of a suite only.
    """
    order = [variant for variant in a.facts.get("block_order", ()) if variant in variants]
    first, second = a.row.get("goodput_steps_per_s"), b.row.get("goodput_steps_per_s")
    if not first or not second or not {a.row["variant"], b.row["variant"]} <= {*order}:
        return None
    return order.index(a.row["variant"]) - order.index(b.row["variant"]), math.log(first / second)


def _explain_drift(later: Sequence[int], d: Sequence[float]) -> str | None:
    """Why a linear drift may have made the mean of `d`; None if the blocks show that it did not."""
    mean, effect = math.fsum(later) / len(later), math.fsum(d) / len(d)
    text = f"the first one ran {mean:+.2g} places later on average ({format_count(len(d), 'block')})"
    slope = fit_slope(later, d)
    if slope is None:
        return f"{text}, in every block as many: drift favours one of them, and cannot be measured"
    drift = abs(mean) * (abs(slope.center) + slope.half_width)
    if drift < abs(effect):
        return None
    return (
        f"{text}; regression of the log goodput ratio on that: {slope.center:+.3g} a place (p = {slope.p:.2g}, 95 %"
        f" +- {slope.half_width:.2g}), a drift that makes up to {drift:.2g} of the effect of {effect:+.3g}"
    )


def _find_torn_blocks(facts: CampaignFacts) -> Iterable[Threat]:
    """The blocks between whose runs other runs or too much time came."""
    runs = [] if len(_boots(facts)) > 1 else [*facts.begun, *facts.campaign.again]  # an A/A run fills its time
    stamped = [run for run in runs if run.facts["spawn_t"] is not None]
    ordered = sorted(stamped, key=lambda run: run.facts["spawn_t"])
    sizes = Counter((run.row["suite_id"], run.row["seed"]) for run in ordered)
    torn = []
    for key, group in itertools.groupby(ordered, key=lambda run: (run.row["suite_id"], run.row["seed"])):
        if len(list(group)) < sizes[key]:
            torn.append(facts.label(key[0], f"seed{key[1]}"))
    if torn:
        names = sorted(set(torn))
        yield Threat(
            "not_interleaved", True, f"blocks between whose variants other runs came ({len(names)}): {join_some(names)}"
        )
    if apart := _find_split_blocks(facts, ordered):
        yield Threat(
            "not_interleaved",
            True,
            f"blocks whose variants ran in different sessions ({len(apart)}): {join_some(apart)}",
        )


def _find_split_blocks(facts: CampaignFacts, ordered: Iterable[RunAnalysis]) -> list[str]:
    """Blocks in which the gap between two runs exceeds SESSION_GAP_NS and the block's longest run.

    Such runs count as runs of different sessions.
    """
    blocks: dict[tuple[str, int], list[RunAnalysis]] = {}
    for run in ordered:
        blocks.setdefault((run.row["suite_id"], run.row["seed"]), []).append(run)
    found = []
    for (suite, seed), own in blocks.items():
        gap_ns = max((b.facts["spawn_t"] - a.facts["exit_t"] for a, b in itertools.pairwise(own)), default=0)
        longest_ns = max(run.facts["exit_t"] - run.facts["spawn_t"] for run in own)
        if gap_ns > max(longest_ns, SESSION_GAP_NS):
            block = facts.label(suite, f"seed{seed}")
            found.append(f"{block} ({gap_ns / NS_PER_S:.0f} s between two runs)")
    return found


def _boots(facts: CampaignFacts) -> set[str]:
    return {str(r.facts["machine"]["boot_id"]) for r in facts.begun if "boot_id" in r.facts.get("machine", {})}


def _explain_one_engine(facts: CampaignFacts) -> str | None:
    return "one engine" if len(facts.engines) < 2 else explain_unbegun(facts)


@_checks.register("unequal_failures", blocks=True, blind=_explain_one_engine)
def _check_unequal_failures(facts: CampaignFacts) -> Iterable[Threat]:
    # Every engine of a block has the same plan. Failures in seconds strike a slower one more often.
    for a, b in itertools.combinations(facts.engines, 2):
        found = []
        for (suite, seed), block in facts.blocks.items():
            own = {run.row["variant"]: run.row.get("failures_fired") for run in block if _is_whole(facts, run)}
            if None not in (fired := (own.get(a), own.get(b))) and fired[0] != fired[1]:
                found.append(f"{facts.label(suite, f'seed{seed}')}: {fired[0]} and {fired[1]}")
        if found:
            blocks = format_count(len(found), "block")
            text = f"{a} and {b} met different numbers of failures in {blocks}: {join_some(found)}"
            yield Threat("unequal_failures", True, text, (a, b))


def _is_whole(facts: CampaignFacts, run: RunAnalysis) -> bool:
    return run.key not in facts.campaign.faults
