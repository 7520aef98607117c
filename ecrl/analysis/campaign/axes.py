"""The axes of a campaign: their values in rows, their texts, and the selection of rows by axis values."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ecrl.analysis.run.metrics import Row, RunAnalysis, get_cell, get_own_axes
from ecrl.config.axes import format_axes, format_value, matches, split_key
from ecrl.config.suite import Suite
from ecrl.records.columns import get_axis_column

# MATRIX_AXES: the columns of the axes that every campaign has, in the order of a matrix file. _SETTINGS: the columns of
# settings that distinguish suites if `[axes]` gives them several values.
MATRIX_AXES = ("dataset", "model", "failure_label", "checkpoint_every", "max_inflight", "launcher")
_SETTINGS = ("nproc", "steps")


def add_axes(run: RunAnalysis, suite: Suite, axes: Collection[str]) -> RunAnalysis:
    """A copy of the run with the values that `[axes]` gives its suite. The run may be a missing one.

    axes: the keys of `[axes]` in the suite's matrix, or in all matrices that it is pooled with.
    """
    if not axes:
        return run
    cells = {get_axis_column(key): get_axis_value(suite, key) for key in axes}
    return replace(run, row=run.row | cells, facts=run.facts | {"axes": format_suite_axes(suite, axes)})


def get_axis_value(suite: Suite, key: str) -> Any:
    """The suite's value of a key that `[axes]` may hold, whether or not its own matrix has it there; None if unset."""
    table, *names = split_key(key)
    if table == "variants":
        recipe = suite.recipes.get(names[0])
        return None if recipe is None else recipe.options.get(names[1])
    return getattr(getattr(suite, table), names[0])


def select_rows(rows: Sequence[Row], where: Mapping[str, Any]) -> Sequence[Row]:
    """The rows of the suites that a claim's `where` selects; all rows if `where` is empty."""
    return [row for row in rows if matches(where, get_cell(row))] if where else rows


def format_where(where: Mapping[str, Any]) -> str:
    """'dataset = noise, train.nproc = 2 or 4'."""
    lists = {axis: value if isinstance(value, list) else [value] for axis, value in where.items()}
    return ", ".join(f"{axis} = {' or '.join(map(format_value, values))}" for axis, values in lists.items())


def format_suite_axes(suite: Suite, axes: Iterable[str]) -> str:
    """'train.nproc=2, checkpoint.keep=3'."""
    values = [(key, get_axis_value(suite, key)) for key in axes]
    return ", ".join(format_axes([(key, value)]) for key, value in values if value is not None)


def list_axes(rows: Iterable[Row]) -> tuple[str, ...]:
    """The axis columns by which the suites of one table may differ."""
    first = next(iter(rows), {})
    return (*MATRIX_AXES, *_SETTINGS, *get_own_axes(first))


def format_axis(column: str, value: Any) -> str:
    """The value of an axis as text that is clear on its own: 'noise', 'every 50', '2 ranks', 'train.batch_size=4'."""
    match column:
        case "failure_label" if value == "none":
            return "failures none"  # 'none' alone would not be clear
        case "checkpoint_every":
            return f"every {value}"
        case "max_inflight":
            return f"{value} in flight"
        case "nproc":
            return f"{value} rank{'' if value == 1 else 's'}"
        case "steps":
            return f"{value} steps"
    return str(value) if column in MATRIX_AXES else format_axes([(column, value)])
