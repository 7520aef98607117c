"""The conclusions that a detailed table cannot support, and why. The table's report lists them."""

import math
from collections.abc import Iterable, Sequence

from ecrl.analysis.external_table.blocks import Block
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.analysis.threats.base import join_some

MIN_COMMON_STEPS = 10  # no checkpoint interval is shorter, so a smaller common divisor of failure steps says nothing
_SHOWN_DIVISORS = 3


def has_only_boundary_failures(blocks: Iterable[Block]) -> bool | None:
    """Whether every planned failure strikes on a checkpoint boundary; None if steps or the interval are unknown."""
    known = [(block.failure_steps, block.get_setting("checkpoint_every")) for block in blocks]
    places = [place for steps, _ in known for place in steps.split(";") if steps]
    if any(not place.isdigit() for place in places):
        return False  # inside a step's work, or at an instant
    if not known or any(not steps or not every for steps, every in known):
        return None
    return all(int(step) % every == 0 for steps, every in known for step in steps.split(";"))


def find_common_steps(blocks: Iterable[Block]) -> int | None:
    """The largest number of steps that divides every failure's step; None if that says nothing about boundaries."""
    places = {place for block in blocks for place in block.failure_steps.split(";") if place}
    if len(places) < 2 or not all(place.isdigit() for place in places):
        return None
    common = math.gcd(*map(int, places))
    return common if common >= MIN_COMMON_STEPS else None


def describe_boundaries(blocks: Sequence[Block]) -> str | None:
    """Why blocking replays nothing here; None if it may."""
    match has_only_boundary_failures(blocks):
        case True:
            return "every failure strikes on a checkpoint boundary"
        case None if common := find_common_steps(blocks):
            largest = [common // n for n in range(1, common + 1) if common % n == 0][:_SHOWN_DIVISORS]
            return (
                f"every failure's step is a multiple of {common}, so it is on a boundary of every checkpoint interval"
                f" that divides {common} ({', '.join(map(str, largest))} and so on)"
            )
    return None


def list_limits(blocks: Sequence[Block], columns: Sequence[str]) -> tuple[str, ...]:
    """One text for each thing that this table cannot show."""
    found = ["No claim can be CONFIRMED: a table carries no hash of claims made before its runs."]
    found += _limit_seeds(blocks)
    if not any(block.values.get("ref_goodput") for block in blocks):
        found.append("No cost against training without checkpoints: the table has no reference (ref_goodput).")
    found.append("No interference: stall is not the cost of overlapping, and step times are not in the table.")
    found.append(_limit_lost_work(blocks))
    if any(block.values.get("ovl_minus_blk_loss_diff") is not None for block in blocks):
        found.append(
            "Nothing about divergence from the reference: ovl_minus_blk_loss_diff is a signed difference of two"
            " runs, which hides how far both lie from it, and signed values cancel in a mean."
        )
    if "blk_correct" not in columns or "ovl_correct" not in columns:
        found.append("Nothing about correctness of recovery: there are no blk_correct and ovl_correct columns.")
    small = sorted({f"{factor} = {value}" for factor, value, n in _count_suites(blocks) if n < MIN_PAIRS})
    if small:
        found.append(f"No verdict per sub-table below {MIN_PAIRS} suites: {join_some(small, most=6)}.")
    return tuple(found)


def _limit_seeds(blocks: Sequence[Block]) -> list[str]:
    counts = {block.n_seeds for block in blocks}
    if any(block.seed is not None for block in blocks):
        return []
    if None in counts:
        some = "of every row " if counts != {None} else ""
        return [f"Nothing about run-to-run spread: the table does not say {some}how many seeds stand behind a row."]
    if counts == {1}:
        return ["Nothing beyond the one seed behind every row: a suite's ratio has no interval of its own."]
    return ["No interval per suite: rows are means over seeds and the single runs are not in the table."]


def _limit_lost_work(blocks: Sequence[Block]) -> str:
    if (why := describe_boundaries(blocks)) is not None:
        return f"Nothing about lost work: {why}; there replay is zero by construction for blocking."
    if has_only_boundary_failures(blocks) is None:
        return "Nothing about lost work: the table has no replay column, and intervals or failure steps are unknown."
    return "Nothing about lost work: the table has no replay column."


def _count_suites(blocks: Iterable[Block]) -> Iterable[tuple[str, str, int]]:
    suites: dict[tuple[str, str], set[str]] = {}
    for block in blocks:
        for factor, value in (
            ("dataset", block.values["dataset"]), ("model", block.values["model"]), ("failure_label", block.label),
        ):  # fmt: skip
            suites.setdefault((factor, value), set()).add(block.suite_id)
    return ((factor, value, len(ids)) for (factor, value), ids in suites.items())
