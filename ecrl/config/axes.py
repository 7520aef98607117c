"""Axes: keys of a matrix file that take several values, and the filters that select cells of the matrix."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

# Axes that every suite has, by the names used in `[[exclude]]` and in a claim's `where`.
SUITE_AXES = ("dataset", "model", "failure", "checkpoint_every", "max_inflight", "launcher")
LAUNCHER_KEY = "train.launcher"  # `[axes] "train.launcher"` and `[matrix] launchers` are the same axis
PLACE_KEY = "checkpoint.dir"  # identifies a suite as an axis alone; a path of checkpoints is no identity otherwise

Values = Mapping[str, Any]


def flatten_axes(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, values) of every axis. A key may be written with or without quotes."""
    # Without quotes, `train.nproc = [2]` is a nested table in TOML.
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from flatten_axes(value, f"{name}.")
        else:
            yield name, value


def split_key(key: str) -> tuple[str, ...]:
    """The path of an axis in the file: ('train', 'nproc') or ('variants', 'ram', 'disk_every')."""
    table, _, rest = key.partition(".")
    if table != "variants":
        return (table, rest)
    variant, _, option = rest.rpartition(".")  # a variant's name may hold dots, an option's does not
    return (table, variant, option)


def matches(chosen: Mapping[str, Any], cell: Values) -> bool:
    """Whether a filter selects a cell: for each axis of the filter, the cell has one of the filter's values.

    chosen: the filter; by axis, a value, a shell pattern or a list of these. cell: the value of every axis.
    """
    return all(key in cell and _is_chosen(wanted, cell[key]) for key, wanted in chosen.items())


def _is_chosen(wanted: Any, value: Any) -> bool:
    if isinstance(wanted, list):
        return any(_is_chosen(one, value) for one in wanted)
    if isinstance(wanted, str):
        return fnmatchcase(format_value(value), wanted)
    return isinstance(wanted, bool) == isinstance(value, bool) and bool(wanted == value)  # True == 1 in Python


def format_value(value: Any) -> str:
    """A value in the form of tables and suite ids: true, 4, 0.05, fsdp2."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_axes(values: Iterable[tuple[str, Any]]) -> str:
    """The values of `[axes]` in the form of the manifest: 'train.nproc=2;train.parallel=fsdp2'."""
    return ";".join(f"{key}={format_value(value)}" for key, value in values)
