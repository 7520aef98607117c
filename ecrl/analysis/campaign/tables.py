"""The three tables of a campaign as CSV text: runs, summary, detailed (design 3.3).

Floats carry 9 significant digits; an unknown value is an empty cell. Same analysis, same bytes.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ecrl.analysis.run.metrics import REFERENCE, Row
from ecrl.analysis.statistics.compare import log_interval
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS, LEDGER_BUCKETS, RUN_COLUMNS

SIGNIFICANT_DIGITS = 9

_SUITE = (
    "suite_id",
    "dataset",
    "model",
    "failure_label",
    "failure_steps",
    "checkpoint_every",
    "max_inflight",
    "launcher",
)
_MEANS = (
    "ettr", "ettr_ref", "wall_s", "stall_s", "interference_s", "restarts", "replayed_steps", "lost_interval_steps",
    "lost_in_flight_steps", "final_loss", "d_end", "d_max", *(f"{bucket}_s" for bucket in LEDGER_BUCKETS),
    "residual_s", "wasted_s",
)  # fmt: skip
SUMMARY_COLUMNS = (
    *_SUITE, "variant", "n_seeds", "n_missing", "n_correct",
    "goodput_steps_per_s", "goodput_ci_low", "goodput_ci_high", "rel_goodput", *_MEANS,
)  # fmt: skip


def cell(value: Any) -> str:
    """A value as a CSV cell: '' for None and for what is not finite, true/false, 9 significant digits for floats."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.{SIGNIFICANT_DIGITS}g}" if isinstance(value, float) else str(value)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV with a header and '\\n' line ends; keys that are not columns are left out."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
    return out.getvalue()


def build_runs_csv(rows: Iterable[Row]) -> str:
    """`<prefix>_runs.csv`: one row a run."""
    return csv_text(RUN_COLUMNS, rows)


def build_summary_rows(rows: Sequence[Row]) -> list[Row]:
    """One row per suite x variant over its completed runs: geometric mean of goodput over seeds with a t interval
    on logs (from two seeds on), arithmetic means of everything else (metrics.md section 1, last rule)."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["suite_id"], row["variant"]), []).append(row)
    return [_summary(group) for group in groups.values()]


def _summary(group: list[Row]) -> Row:
    done = [row for row in group if row["outcome"] == "completed"]
    goodputs = [row["goodput_steps_per_s"] for row in done if row["goodput_steps_per_s"]]
    relative = [row["rel_goodput"] for row in done if row["rel_goodput"]]
    low, high = log_interval(goodputs)
    return (
        {column: group[0][column] for column in (*_SUITE, "variant")}
        | {
            "n_seeds": len(done),
            "n_missing": len(group) - len(done),
            "n_correct": sum(row["correct"] is True for row in done),
            "goodput_steps_per_s": geometric_mean(goodputs),
            "goodput_ci_low": low,
            "goodput_ci_high": high,
            "rel_goodput": geometric_mean(relative),
        }
        | {column: mean([row[column] for row in done]) for column in _MEANS}
    )


def build_summary_csv(rows: Sequence[Row]) -> str:
    """`<prefix>_summary.csv`: one row per suite x variant."""
    return csv_text(SUMMARY_COLUMNS, build_summary_rows(rows))


def mean(values: Sequence[float | None]) -> float | None:
    """Arithmetic mean of the known values, None without any."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def geometric_mean(values: Sequence[float]) -> float | None:
    """Geometric mean of positive values, None without any (ratios: Fleming & Wallace, CACM 1986)."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def failure_text(label: str, steps: str) -> str:
    """'base:400,1200' from a label and steps joined with ';'."""
    return f"{label}:{steps.replace(';', ',')}" if steps else label


def build_detailed_rows(rows: Sequence[Row], dropped: Mapping[tuple[str, int], str]) -> list[Row]:
    """One row per suite, blocking against overlapped, over the blocks that are whole. A suite without one has
    empty cells."""
    suites: dict[str, list[Row]] = {}
    for row in rows:
        suites.setdefault(row["suite_id"], []).append(row)
    return [
        _build_detailed_row(group, [r for r in group if (r["suite_id"], r["seed"]) not in dropped])
        for group in suites.values()
    ]


def _build_detailed_row(group: list[Row], usable: list[Row]) -> Row:
    steps = next((row["failure_steps"] for row in group if row["failure_steps"]), "")
    result: Row = {
        column: group[0][column]
        for column in ("suite_id", "dataset", "model", "checkpoint_every", "max_inflight", "launcher")
    }
    result["failure"] = failure_text(group[0]["failure_label"], steps)
    for short, variant in (("ref", REFERENCE), ("blk", "blocking"), ("ovl", "overlapped")):
        own = [row for row in usable if row["variant"] == variant]
        result[f"{short}_goodput"] = geometric_mean([r["goodput_steps_per_s"] for r in own if r["goodput_steps_per_s"]])
        for column in ("stall_s", "wall_s", "restarts", "final_loss"):
            result[f"{short}_{column}"] = mean([row[column] for row in own])
        known = [row["correct"] for row in group if row["variant"] == variant and row["outcome"] == "completed"]
        result[f"{short}_correct"] = all(known) if known and None not in known else None
        result[f"{short}_seeds"] = len(own)
    if result["blk_goodput"] and result["ovl_goodput"]:
        result["ovl_vs_blk"] = result["ovl_goodput"] / result["blk_goodput"] - 1
    if result["ovl_final_loss"] is not None and result["blk_final_loss"] is not None:
        result["ovl_minus_blk_loss_diff"] = result["ovl_final_loss"] - result["blk_final_loss"]
    result["n_seeds"] = min(result["blk_seeds"], result["ovl_seeds"])
    return result


def build_detailed_csv(rows: Sequence[Row], dropped: Mapping[tuple[str, int], str]) -> str:
    """`<prefix>_detailed_table.csv`: the columns of design 3.3, in their order."""
    return csv_text((*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS), build_detailed_rows(rows, dropped))
