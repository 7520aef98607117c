"""Frames from rows. Every column has a fixed type, even if values are missing."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pandas as pd

# With missing values (<NA>) counts stay whole numbers. A float64 cannot represent every whole number above 2**53.
COUNT: Final = "Int64"
# A missing number is NaN: numpy, scipy and matplotlib accept such a column without conversion, unlike Float64.
NUMBER: Final = "float64"
TRUTH: Final = "boolean"
TEXT: Final = "string"
CATEGORY: Final = "category"
TIME: Final = "datetime"
DTypes = Mapping[str, "str | pd.CategoricalDtype"]


def build_frame(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], dtypes: DTypes) -> pd.DataFrame:
    """A frame of the given columns of the rows. Absent values and None are missing values.

    A column that `dtypes` does not have takes the type of its values (`infer_dtype`).
    """
    held = list(rows)
    return pd.DataFrame(
        {column: build_column([row.get(column) for row in held], dtypes.get(column)) for column in columns}
    )


def build_column(values: list[Any], dtype: "str | pd.CategoricalDtype | None") -> "pd.Series[Any]":
    """The values as a column.

    `CATEGORY`: numbers are ordered categories; words keep the order of their first occurrence. `TIME`: in UTC; a value
    that is not a time becomes a missing value.
    """
    if dtype == TIME:
        return pd.to_datetime(pd.Series(values, dtype=TEXT), utc=True, errors="coerce").dt.as_unit("ns")
    if isinstance(dtype, str) and dtype == CATEGORY:  # a CategoricalDtype equals it, too
        known = dict.fromkeys(value for value in values if value is not None)
        are_numbers = bool(known) and all(isinstance(value, int | float) for value in known)
        categories = sorted(known) if are_numbers else list(known)
        return pd.Series(pd.Categorical(values, categories=categories, ordered=are_numbers))
    return pd.Series(values, dtype=infer_dtype(values) if dtype is None else dtype)


def infer_dtype(values: Iterable[Any]) -> str:
    """The column type that fits the values; `object` for lists, mixed types and no values."""
    kinds = {type(value) for value in values if value is not None}
    for dtype, allowed in ((TRUTH, {bool}), (COUNT, {int}), (NUMBER, {int, float}), (TEXT, {str})):
        if kinds and kinds <= allowed:
            return dtype
    return "object"


def to_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The frame as rows of plain Python values. Missing values are None."""
    rows: list[dict[str, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows
