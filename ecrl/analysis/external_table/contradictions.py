"""Tables that cannot be right: numbers that contradict each other, each other's units, or arithmetic.

docs/metrics.md, "Tables made elsewhere". Each check names the rows and their numbers.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ecrl.analysis.external_table.blocks import SHORTS, Block
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.intervals import CONFIDENCE, t_interval
from ecrl.analysis.threats.base import Threat, format_count, join_some

# Goodput is a geometric mean over seeds and wall-clock an arithmetic one: their product is the steps only about.
MEANS_DIFFER = 0.01
APART = 100  # times; values of one column and one setting that differ more are taken for different units
SAME_COLUMNS = 3
MIN_RATIOS = 3
_MEASURED = ("blk_goodput", "ovl_goodput", "blk_stall_s", "ovl_stall_s", "ovl_minus_blk_loss_diff")
_SETTING = ("checkpoint_every", "max_inflight", "nproc", "steps")


def find_contradictions(blocks: Sequence[Block]) -> list[Threat]:
    """A blocking threat for each condition that is met."""
    found = {
        "table_contradicts_itself": [
            *_find_unequal_work(blocks),
            *_find_wrong_ratios(blocks),
            *_find_conflicts(blocks),
        ],
        "impossible": [*_find_long_stalls(blocks), *_find_fast_engines(blocks)],
        "duplicate_rows": _find_duplicates(blocks),
        "units": [*_find_units(blocks), *_find_unlike_goodputs(blocks)],
        "unequal_failures": _find_unequal_failures(blocks),
        "no_spread": _find_no_spread(blocks),
    }
    said = {code: list(texts) for code, texts in found.items()}
    return [Threat(code, True, join_some(texts, mark="; ")) for code, texts in said.items() if texts]


def _find_unequal_work(blocks: Iterable[Block]) -> Iterator[str]:
    """Goodput x wall-clock is the number of steps, which all variants of a block have in common."""
    for block in blocks:
        products = {}
        for short in ("blk", "ovl"):
            goodput, wall_s = block.get_bounds(f"{short}_goodput"), block.get_bounds(f"{short}_wall_s")
            if goodput is not None and wall_s is not None:
                products[f"{short}_goodput x {short}_wall_s"] = (goodput[0] * wall_s[0], goodput[1] * wall_s[1])
        if products and (steps := block.get_setting("steps")):
            products["steps"] = (steps, steps)
        lowest = min((high for _, high in products.values()), default=0.0)
        highest = max((low for low, _ in products.values()), default=0.0)
        if highest > lowest * (1 + MEANS_DIFFER):
            told = " but ".join(f"{name} = {(low + high) / 2:.6g}" for name, (low, high) in products.items())
            yield f"{block.name}: {told}"


def _find_wrong_ratios(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        said, bounds = block.get_bounds("ovl_vs_blk"), block.ratio_bounds
        if said is not None and bounds is not None and (said[1] < bounds[0] - 1 or said[0] > bounds[1] - 1):
            ratio = block.values["ovl_goodput"] / block.values["blk_goodput"] - 1
            text = f"{block.name}: ovl_vs_blk says {block.values['ovl_vs_blk']:g}, ovl_goodput / blk_goodput - 1 is"
            yield f"{text} {ratio:.4g} (used)"


def _find_conflicts(blocks: Iterable[Block]) -> Iterator[str]:
    return (f"{block.name}: {'; '.join(block.conflicts)}" for block in blocks if block.conflicts)


def _find_long_stalls(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        for short, variant in SHORTS.items():
            stall_s, wall_s = block.get_bounds(f"{short}_stall_s"), block.get_wall_s(short)
            if stall_s is not None and wall_s is not None:
                most_s = wall_s * (1 + MEANS_DIFFER) + block.errors.get(f"{short}_wall_s", 0.0)
                if stall_s[0] > most_s:
                    stalled = block.values[f"{short}_stall_s"]
                    yield f"{block.name}: {variant} stalls {stalled:g} s in a wall-clock of {wall_s:.6g} s"


def _find_fast_engines(blocks: Sequence[Block]) -> Iterator[str]:
    """No engine trains faster than training without checkpoints and failures."""
    for short, variant in SHORTS.items():
        ratios = {b.name: r for b in blocks if variant != REFERENCE and (r := _divide_by_reference(b, short))}
        logs = [math.log(ratio) for ratio in ratios.values()]
        low, high = t_interval(logs, CONFIDENCE)
        if low is not None and high is not None and low > 0:
            factor, low, high = (math.exp(d) for d in (math.fsum(logs) / len(logs), low, high))
            most = max(ratios, key=lambda name: ratios[name])
            text = f"{variant} is {factor:.4g} times as fast as training without checkpoints [{low:.4g}, {high:.4g}]"
            yield f"{text}, most in {most} ({ratios[most]:.4g})"


def _divide_by_reference(block: Block, short: str) -> float | None:
    goodput, reference = block.values.get(f"{short}_goodput"), block.values.get("ref_goodput")
    return goodput / reference if goodput and reference else None


def _find_duplicates(blocks: Sequence[Block]) -> Iterator[str]:
    """Rows with the same numbers, other than 0, in several measured columns."""
    first: dict[tuple[Any, ...], Block] = {}
    same: dict[int, tuple[Block, list[Block]]] = {}
    for block in blocks:
        keys = _list_keys(block)
        origin = next((first[key] for key in keys if key in first), block)
        for key in keys:
            first.setdefault(key, origin)
        if origin is not block:
            same.setdefault(origin.number, (origin, []))[1].append(block)
    for origin, copies in same.values():
        named = join_some([block.name for block in copies])
        yield f"{origin.name} again in {named} ({_describe_same(origin, copies[0])})"


def _list_keys(block: Block) -> list[tuple[Any, ...]]:
    """Every set of SAME_COLUMNS measured numbers of the row."""
    known = [(column, block.values[column]) for column in _MEASURED if block.values.get(column)]
    return list(itertools.combinations(known, SAME_COLUMNS))


def _describe_same(one: Block, other: Block) -> str:
    equal = [c for c in _MEASURED if one.values.get(c) and one.values[c] == other.values.get(c)]
    return ", ".join(f"{column} {one.values[column]:g}" for column in equal)


def _find_units(blocks: Sequence[Block]) -> Iterator[str]:
    """Values of one column that lie far apart although nothing in the settings explains it.

    For one model and setting, far is APART from the least to the largest. Over the whole column it is a gap of that
    size, in seconds and also in steps: a large model has long stalls, and as long steps.
    """
    for column in ("blk_stall_s", "ovl_stall_s", "blk_goodput", "ovl_goodput", "ref_goodput"):
        groups: dict[tuple[Any, ...], list[Block]] = {}
        for block in blocks:
            if block.values.get(column):
                key = (block.values["model"], *(block.get_setting(name) for name in _SETTING))
                groups.setdefault(key, []).append(block)
        apart = [own for own in groups.values() if _measure_range([b.values[column] for b in own]) >= APART]
        known = [block for own in groups.values() for block in own]
        if not apart and column.endswith("_stall_s"):
            goodput = column.replace("stall_s", "goodput")
            in_steps = [b.values[column] * b.values[goodput] for b in known if b.values.get(goodput)]
            if all(_measure_gap(numbers) >= APART for numbers in ([b.values[column] for b in known], in_steps)):
                apart = [known]
        for own in apart:
            least, most = (choose(own, key=lambda b: b.values[column]) for choose in (min, max))
            text = f"{column} is {least.values[column]:g} in {least.name} and {most.values[column]:g} in {most.name}"
            yield f"{text}, {most.values[column] / least.values[column]:,.0f} times as much"


def _measure_range(values: Sequence[float]) -> float:
    return max(values) / min(values)


def _measure_gap(values: Sequence[float]) -> float:
    """The largest ratio of neighbours; 1 without two values."""
    ordered = sorted(values)
    return max((b / a for a, b in itertools.pairwise(ordered)), default=1.0)


def _find_unlike_goodputs(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        known = {f"{short}_goodput": v for short in SHORTS if (v := block.values.get(f"{short}_goodput"))}
        if known and _measure_range(list(known.values())) >= APART:
            told = ", ".join(f"{column} {value:g}" for column, value in known.items())
            yield f"{block.name}: {told}: {APART} times apart or more"


def _find_unequal_failures(blocks: Iterable[Block]) -> Iterator[str]:
    for block in blocks:
        blk, ovl = block.values.get("blk_restarts"), block.values.get("ovl_restarts")
        if blk is not None and ovl is not None and blk != ovl:
            yield f"{block.name}: {blk:g} restarts of blocking against {ovl:g} of overlapped"


def _find_no_spread(blocks: Sequence[Block]) -> Iterator[str]:
    """One ratio that all rows allow within their rounding: nothing was measured twice, or the cells are too coarse."""
    known = [block.ratio_bounds for block in blocks if block.ratio_bounds is not None]
    if len(known) >= MIN_RATIOS and (low := max(a for a, _ in known)) <= (high := min(b for _, b in known)):
        text = f"overlapped / blocking is {(low + high) / 2:.6g} in all {format_count(len(known), 'row')}"
        yield f"{text}, to the last digit: there is no spread that could carry an interval"
