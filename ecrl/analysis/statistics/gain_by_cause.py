"""Gain by cause: the exact split of a wall-clock ratio over the parts of the time ledger.

Definitions: docs/metrics.md, "Gain by cause".
"""

import math
from collections.abc import Mapping, Sequence

from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, Faults, compare
from ecrl.records.columns import LEDGER_BUCKETS

# Parts that are no buckets: what is left of `compute`, and what is taken out of `compute` and `replay`.
STEPS, SLOWER_STEPS, WARM_UP = "steps", "slower steps", "warm-up"
DETECT_AND_RESTART = "detect and restart"
WALL = "wall-clock"


def compute_parts(row: Row, replayed_warm_up_s: float) -> dict[str, float] | None:
    """The seconds of a run by part, which add up to its wall-clock; None without a ledger.

    replayed_warm_up_s: the part of the warm-up that is in the bucket `replay`.
    """
    seconds = {bucket: row[f"{bucket}_s"] for bucket in LEDGER_BUCKETS} | {"residual": row["residual_s"]}
    if row["wall_s"] is None or any(value is None for bucket, value in seconds.items() if bucket != "detect"):
        return None
    compute_s, replay_s = seconds.pop("compute"), seconds.pop("replay")
    warm_s, slower_s = row["rewarm_s"] or 0.0, row["interference_s"]
    parts = {STEPS: compute_s - (warm_s - replayed_warm_up_s) - (slower_s or 0.0)}
    parts |= {} if slower_s is None else {SLOWER_STEPS: slower_s}
    return parts | {WARM_UP: warm_s, "replay": replay_s - replayed_warm_up_s} | seconds


def log_mean(x: float, y: float) -> float:
    """The logarithmic mean of two positive numbers: (x - y) / ln(x / y)."""
    return x if x == y else (x - y) / math.log(x / y)


def split_wall_clock(
    rows: Sequence[Row], a: str, b: str, faults: Faults, replayed_warm_up_s: Mapping[tuple[str, str, int], float]
) -> dict[str, Comparison]:
    """Split ln(W_a / W_b) over the parts of the ledger; `WALL` is the whole. Empty without ledgers of both.

    Each part is a comparison of seconds / L, with L the logarithmic mean of both wall-clocks: its differences are the
    terms of the sum, block by block. replayed_warm_up_s: by suite, variant and seed; see `compute_parts`.
    """
    blocks = _list_blocks(rows, a, b, faults, replayed_warm_up_s)
    blocks = _keep_most_detailed(blocks)
    names = list(dict.fromkeys(part for block in blocks for _, parts in block for part in parts))
    scaled: list[Row] = []
    for block in blocks:
        middle_s = log_mean(*(row["wall_s"] for row, _ in block))
        for row, parts in block:
            own = {WALL: math.log(row["wall_s"]), **{part: value / middle_s for part, value in parts.items()}}
            scaled.append({key: row.get(key, row["suite_id"]) for key in ("suite_id", "variant", "seed", "uses")} | own)
    used = [part for part in names if any(row[part] for row in scaled)]
    return {part: compare(scaled, a, b, part, "difference", {}) for part in (WALL, *used) if scaled}


_Block = tuple[tuple[Row, dict[str, float]], ...]


def _list_blocks(
    rows: Sequence[Row], a: str, b: str, faults: Faults, replayed_warm_up_s: Mapping[tuple[str, str, int], float]
) -> list[_Block]:
    """The runs of both variants, with their parts, in every block in which both are whole and have a ledger."""
    found: dict[tuple[str, int], dict[str, tuple[Row, dict[str, float]]]] = {}
    for row in rows:
        key = (row["suite_id"], row["variant"], row["seed"])
        parts = None if key in faults else compute_parts(row, replayed_warm_up_s.get(key, 0.0))
        if row["variant"] in (a, b) and parts is not None:
            found.setdefault((row["suite_id"], row["seed"]), {})[row["variant"]] = (row, parts)
    return [(own[a], own[b]) for own in found.values() if len(own) == 2]


def _keep_most_detailed(blocks: Sequence[_Block]) -> list[_Block]:
    """The blocks whose steps are split, where there are such; all get one list of parts."""

    def holds(block: _Block) -> bool:
        return all(SLOWER_STEPS in parts for _, parts in block)

    # Without a whole reference a block's slower steps are not known. Other parts' means would rest on more blocks.
    kept = [block for block in blocks if holds(block)] or list(blocks)
    split = bool(kept) and holds(kept[0])
    known = all(parts["detect"] is not None for block in kept for _, parts in block)
    return [tuple((row, _unify(parts, split=split, known=known)) for row, parts in block) for block in kept]


def _unify(parts: Mapping[str, float], *, split: bool, known: bool) -> dict[str, float]:
    found = dict(parts)
    if not split:
        found[STEPS] += found.pop(SLOWER_STEPS, 0.0)
    if not known:  # where no dead worker was reported, `restart` holds the time of `detect`
        found[DETECT_AND_RESTART] = (found.pop("detect") or 0.0) + found.pop("restart")
    return found
