"""The conclusions that a detailed table cannot support, and why. The table's report lists them."""

from collections.abc import Iterable, Mapping, Sequence

from ecrl.analysis.campaign.variants import BLOCKING
from ecrl.analysis.run.metrics import REFERENCE, Row
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.analysis.threats.base import Threat
from ecrl.analysis.threats.design import find_nuisance
from ecrl.analysis.threats.detect import CHECKS, ThreatReport


def has_only_boundary_failures(rows: Iterable[Row]) -> bool | None:
    """Whether every planned failure strikes on a checkpoint boundary; None if steps or the interval are unknown."""
    known = [(row["failure_steps"], row["checkpoint_every"]) for row in rows if row["variant"] != REFERENCE]
    if not known or any(not steps or not every for steps, every in known):
        return None
    return all(step.isdigit() and int(step) % every == 0 for steps, every in known for step in steps.split(";"))


def limits(
    rows: Sequence[Row], columns: Sequence[str], seeds: Sequence[int], differences: Mapping[str, float]
) -> tuple[str, ...]:
    """One text for each thing that this table cannot show."""
    found = ["No claim can be CONFIRMED: a table carries no hash of claims made before its runs."]
    if not seeds:
        found.append("Nothing about run-to-run spread: the table does not say how many seeds stand behind a row.")
    elif max(seeds) == 1:
        found.append("Nothing beyond the one seed behind every row: a suite's ratio has no interval of its own.")
    else:
        found.append("No interval per suite: rows are means over seeds and the single runs are not in the table.")
    if "ref_goodput" not in columns:
        found.append("No cost against training without checkpoints: there is no reference column (ref_goodput).")
    found.append("No interference: stall is not the cost of overlapping, and step times are not in the table.")
    match has_only_boundary_failures(rows):
        case True:
            found.append(
                "Nothing about lost work: every failure strikes on a checkpoint boundary, so replay is zero by"
                " construction for blocking."
            )
        case None:
            found.append(
                "Nothing about lost work: the table has no replay column, and intervals or failure steps are unknown."
            )
        case False:
            found.append("Nothing about lost work: the table has no replay column.")
    if differences:
        found.append(
            "Nothing about divergence from the reference: ovl_minus_blk_loss_diff is a signed difference of two"
            " runs, which hides how far both lie from it, and signed values cancel in a mean."
        )
    if "blk_correct" not in columns or "ovl_correct" not in columns:
        found.append("Nothing about correctness of recovery: there are no blk_correct and ovl_correct columns.")
    small = sorted({f"{factor} = {value}" for factor, value, n in _groups(rows) if n < MIN_PAIRS})
    if small:
        found.append(f"No verdict per sub-table below {MIN_PAIRS} suites: {', '.join(small)}.")
    return tuple(found)


def _groups(rows: Sequence[Row]) -> Iterable[tuple[str, str, int]]:
    for factor in ("dataset", "model", "failure_label"):
        suites: dict[str, set[str]] = {}
        for row in rows:
            suites.setdefault(row[factor], set()).add(row["suite_id"])
        yield from ((factor, value, len(ids)) for value, ids in suites.items())


def threats_of(rows: Sequence[Row], seeds: Sequence[int], ratio: float | None) -> ThreatReport:
    """The threats to validity that a detailed table can show. All others need records."""
    found = []
    n = len({row["suite_id"] for row in rows})
    if n < MIN_PAIRS:
        found.append(
            Threat("n_pairs_lt_6", True, f"the table has {n} suites; below {MIN_PAIRS} no exact test reaches p = .05")
        )
    if seeds and max(seeds) == 1:
        found.append(Threat("one_seed", True, "every row stands for one seed"))
    if any(row["correct"] is False for row in rows):
        wrong = sorted({row["suite_id"] for row in rows if row["correct"] is False})
        found.append(Threat("correctness_failed", True, f"the table calls these incorrect: {', '.join(wrong)}"))
    if has_only_boundary_failures(rows):
        found.append(Threat("replay_untested", False, "every failure strikes on a checkpoint boundary"))
    for axis, code in (("checkpoint_every", "single_interval"), ("max_inflight", "single_inflight")):
        values = {row[axis] for row in rows}
        if len(values) == 1 and None not in values:
            found.append(Threat(code, False, f"{axis} is {next(iter(values))} everywhere"))
    if not any(row["variant"] == REFERENCE for row in rows):
        found.append(Threat("no_reference", False, "no reference column"))
    found += find_nuisance(rows, BLOCKING, abs(ratio - 1)) if ratio is not None else []
    checked = {"n_pairs_lt_6", "no_reference"} | ({"nuisance_gt_effect"} if ratio is not None else set())
    checked |= {"one_seed"} if seeds else set()
    checked |= {"replay_untested"} if has_only_boundary_failures(rows) is not None else set()
    checked |= {"correctness_failed"} if any(row["correct"] is not None for row in rows) else set()
    met = {threat.code for threat in found}
    rest = {code: "the table alone does not show it" for code in CHECKS if code not in checked | met}
    return ThreatReport(tuple(found), tuple(sorted(checked - met)), rest)
