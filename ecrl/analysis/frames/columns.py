"""Frames from rows: a type for every column, whatever is missing in it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

# Counts stay whole numbers beside a missing one (<NA>); a float64 could not tell 2**53 from its neighbour.
COUNT: Final = "Int64"
# NaN for a missing number: numpy, scipy and matplotlib take such a column as it is, which they do not with Float64.
NUMBER: Final = "float64"
TRUTH: Final = "boolean"
TEXT: Final = "string"
CATEGORY: Final = "category"
TIME: Final = "datetime"
DTypes = Mapping[str, "str | pd.CategoricalDtype"]


def build_frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], dtypes: DTypes) -> pd.DataFrame:
    """The columns of the rows, each of its type; a column without one takes that of its values. Absent and None are
    missing values."""
    held = list(rows)
    return pd.DataFrame(
        {column: build_column([row.get(column) for row in held], dtypes.get(column)) for column in columns}
    )


def build_column(values: list[Any], dtype: "str | pd.CategoricalDtype | None") -> "pd.Series[Any]":
    """The values as a column. `CATEGORY`: numbers are ordered, words keep the order in which they first come.
    `TIME`: in UTC; what is no time is a missing one."""
    if dtype == TIME:
        return pd.to_datetime(pd.Series(values, dtype=TEXT), utc=True, errors="coerce").dt.as_unit("ns")
    if isinstance(dtype, str) and dtype == CATEGORY:  # a CategoricalDtype, which knows its values, equals that, too
        known = dict.fromkeys(value for value in values if value is not None)
        are_numbers = bool(known) and all(isinstance(value, int | float) for value in known)
        categories = sorted(known) if are_numbers else list(known)
        return pd.Series(pd.Categorical(values, categories=categories, ordered=are_numbers))
    return pd.Series(values, dtype=infer_dtype(values) if dtype is None else dtype)


def infer_dtype(values: Iterable[Any]) -> str:
    """The type for values of which nothing is known but themselves; `object` for lists, mixtures and no values."""
    kinds = {type(value) for value in values if value is not None}
    for dtype, allowed in ((TRUTH, {bool}), (COUNT, {int}), (NUMBER, {int, float}), (TEXT, {str})):
        if kinds and kinds <= allowed:
            return dtype
    return "object"


def to_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame as rows of plain Python values, None where one is missing."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
