"""The summary and detailed tables of a campaign as frames, and tables as CSV text (docs/metrics.md, "Tables").

Floats have 9 significant digits. An unknown value is an empty cell. The same analysis gives the same bytes.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecrl.analysis.frames.columns import COUNT, NUMBER, TEXT, TRUTH
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.intervals import log_interval
from ecrl.records.columns import (
    DETAILED_COLUMNS,
    DETAILED_OPTIONAL_COLUMNS,
    LEDGER_BUCKETS,
    add_axis_columns,
)

SIGNIFICANT_DIGITS = 9
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")

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
# The row numbers of a group's runs in their frame.
_Places = npt.NDArray[np.intp]
_Mask = npt.NDArray[np.bool_]


def format_csv(frame: pd.DataFrame) -> str:
    """The frame as CSV with a header and '\\n' line ends.

    Missing and non-finite values are empty cells. Truth values are true and false. A text that a spreadsheet would run
    as a formula has an apostrophe before it.
    """
    shown = frame.copy(deep=False)
    for column, dtype in shown.dtypes.items():
        if dtype == TRUTH or (isinstance(dtype, pd.CategoricalDtype) and dtype.categories.dtype == "bool"):
            shown[column] = shown[column].map({True: "true", False: "false"})
        elif dtype == NUMBER:
            shown[column] = shown[column].where(np.isfinite(shown[column]))
        elif not isinstance(dtype, pd.CategoricalDtype) or not pd.api.types.is_numeric_dtype(dtype.categories.dtype):
            shown[column] = shown[column].map(_quote_formula, na_action="ignore")
    return shown.to_csv(index=False, float_format=f"%.{SIGNIFICANT_DIGITS}g", lineterminator="\n")


def _quote_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def build_summary_frame(runs: pd.DataFrame, axes: Sequence[str] = ()) -> pd.DataFrame:
    """One row per suite and variant, over its completed runs (docs/metrics.md, "Tables").

    Goodput is the geometric mean over seeds, with a t interval on logarithms from two seeds on. Every other value is an
    arithmetic mean.
    """
    groups = _group(runs, "suite_id", "variant")
    done = _select(groups, runs["outcome"] == "completed")
    goodputs = [[value for value in own if value] for own in _get_known(runs, done, "goodput_steps_per_s")]
    relatives = [[value for value in own if value] for own in _get_known(runs, done, "rel_goodput")]
    intervals = list(map(log_interval, goodputs))
    columns: dict[str, Any] = {
        "n_seeds": _count(done),
        "n_missing": _count(groups) - _count(done),
        "n_correct": _count(_select(done, runs["correct"].fillna(False))),
        "goodput_steps_per_s": _floats(map(geometric_mean, goodputs)),
        "goodput_ci_low": _floats(low for low, _ in intervals),
        "goodput_ci_high": _floats(high for _, high in intervals),
        "rel_goodput": _floats(map(geometric_mean, relatives)),
    }
    columns |= {column: _floats(map(mean, _get_known(runs, done, column))) for column in _MEANS}
    frame = _first_rows(runs, groups, add_axis_columns((*_SUITE, "variant"), axes)).assign(**columns)
    return frame[list(add_axis_columns(SUMMARY_COLUMNS, axes))]


def build_detailed_frame(
    runs: pd.DataFrame, dropped: Mapping[tuple[str, int], str], axes: Sequence[str] = ()
) -> pd.DataFrame:
    """One row per suite that compares blocking with overlapped, over the blocks that are not dropped.

    A suite without such a block has missing values. axes: the columns of `[axes]`; they come last.
    """
    suites = _group(runs, "suite_id")
    whole = np.array([key not in dropped for key in zip(runs["suite_id"], runs["seed"], strict=True)], dtype=bool)
    frame = _first_rows(runs, suites, add_axis_columns(_SUITE, axes))
    steps = runs["failure_steps"].astype(TEXT).fillna("").to_numpy()
    planned = [next(filter(None, steps[own]), "") for own in suites]
    columns: dict[str, Any] = {"failure": list(map(failure_text, frame["failure_label"], planned))}
    for short, variant in (("ref", REFERENCE), ("blk", "blocking"), ("ovl", "overlapped")):
        columns |= _describe_variant(runs, _select(suites, runs["variant"] == variant), whole, short)
    columns["ovl_vs_blk"] = columns["ovl_goodput"] / columns["blk_goodput"] - 1
    columns["ovl_minus_blk_loss_diff"] = columns["ovl_final_loss"] - columns["blk_final_loss"]
    columns["n_seeds"] = np.minimum(columns["blk_seeds"], columns["ovl_seeds"])
    return frame.assign(**columns)[list(add_axis_columns((*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS), axes))]


def _describe_variant(runs: pd.DataFrame, groups: Sequence[_Places], whole: _Mask, short: str) -> dict[str, Any]:
    """One variant's columns of the detailed table. groups: the variant's runs, by suite."""
    used = [own[whole[own]] for own in groups]
    goodputs = ([value for value in own if value] for own in _get_known(runs, used, "goodput_steps_per_s"))
    columns: dict[str, Any] = {f"{short}_goodput": _floats(map(geometric_mean, goodputs))}
    for column in ("stall_s", "wall_s", "restarts", "final_loss"):
        columns[f"{short}_{column}"] = _floats(map(mean, _get_known(runs, used, column)))
    done = _select(groups, runs["outcome"] == "completed")
    verdicts = zip(_get_known(runs, done, "correct"), map(len, done), strict=True)
    correct = [all(known) if known and len(known) == n else None for known, n in verdicts]
    columns[f"{short}_correct"] = pd.Series(correct, dtype=TRUTH)
    columns[f"{short}_seeds"] = _count(used)
    return columns


def _group(runs: pd.DataFrame, *columns: str) -> list[_Places]:
    """The row numbers of each group's runs. Groups and runs keep the order of the frame."""
    if runs.empty:
        return []
    numbers = runs.groupby(list(columns), sort=False, observed=True).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)


def _select(groups: Sequence[_Places], chosen: "pd.Series[bool]") -> list[_Places]:
    """The row numbers of each group's runs for which `chosen` is true."""
    mask = chosen.to_numpy(dtype=bool)
    return [own[mask[own]] for own in groups]


def _first_rows(runs: pd.DataFrame, groups: Sequence[_Places], columns: Sequence[str]) -> pd.DataFrame:
    return runs[list(columns)].iloc[[own[0] for own in groups]].reset_index(drop=True)


def _get_known(runs: pd.DataFrame, groups: Sequence[_Places], column: str) -> list[list[float]]:
    """The known values of each group's runs."""
    if not groups:
        return []
    values = runs[column].to_numpy(dtype=float, na_value=np.nan)[np.concatenate(groups)].tolist()
    ends = itertools.accumulate(map(len, groups), initial=0)
    return [[value for value in values[begin:end] if not math.isnan(value)] for begin, end in itertools.pairwise(ends)]


def _count(groups: Sequence[_Places]) -> "pd.Series[int]":
    return pd.Series(list(map(len, groups)), dtype=COUNT)


def _floats(values: Iterable[float | None]) -> npt.NDArray[np.float64]:
    return np.array(list(values), dtype=float)


def mean(values: Sequence[float | None]) -> float | None:
    """Arithmetic mean of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    # Not pandas' mean: its sum may be wrong in the last bit, and that bit decides the ninth digit of a tie.
    return math.fsum(known) / len(known) if known else None


def geometric_mean(values: Sequence[float]) -> float | None:
    """Geometric mean of positive values; None if there are none (for ratios: Fleming & Wallace, CACM 1986)."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def failure_text(label: str, steps: str) -> str:
    """'base:400,1200' from a label and steps joined with ';'."""
    return f"{label}:{steps.replace(';', ',')}" if steps else label
