import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ecrl.analysis.frames.columns import CATEGORY, COUNT, NUMBER, TEXT, TIME, TRUTH, build_column, build_frame, to_rows


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([True, None], TRUTH),
        ([2**63 - 1, None], COUNT),
        ([1, 2.5, None], NUMBER),
        (["a", None], TEXT),
        ([[1], None], "object"),
        ([1, "a"], "object"),
        ([None, None], "object"),
        ([], "object"),
    ],
)
def test_a_column_of_unknown_kind_takes_the_type_of_its_values(values: list[Any], dtype: str) -> None:
    assert build_column(values, None).dtype == dtype


@pytest.mark.parametrize("dtype", [TRUTH, COUNT, NUMBER, TEXT, CATEGORY])
def test_a_column_keeps_its_type_when_everything_is_missing(dtype: str) -> None:
    column = build_column([None, None], dtype)
    assert column.dtype == dtype
    assert column.isna().all()


def test_a_large_count_beside_a_missing_one_stays_exact() -> None:
    assert build_column([2**53 + 1, None], COUNT)[0] == 2**53 + 1


def test_words_keep_the_order_in_which_they_come_and_numbers_are_ordered() -> None:
    words = build_column(["small", None, "large", "small"], CATEGORY)
    assert list(words.cat.categories) == ["small", "large"]
    assert not words.cat.ordered
    numbers = build_column([100, 25, None, 50], CATEGORY)
    assert list(numbers.cat.categories) == [25, 50, 100]
    assert numbers.max() == 100
    assert list(numbers >= 50) == [True, False, False, True]
    assert numbers.dropna().astype(int).sum() == 175


def test_categories_that_are_given_are_kept_whatever_comes() -> None:
    column = build_column(["b", "a"], pd.CategoricalDtype(["a", "b", "c"]))
    assert list(column.cat.categories) == ["a", "b", "c"]


def test_times_are_utc_and_what_is_no_time_is_missing() -> None:
    column = build_column(["2026-11-21T23:28:00Z", "", "soon", None], TIME)
    assert str(column.dtype) == "datetime64[ns, UTC]"
    assert column[0] == pd.Timestamp("2026-11-21 23:28", tz="UTC")
    assert list(column.isna()) == [False, True, True, True]


def test_rows_come_back_as_plain_values() -> None:
    rows: list[dict[str, Any]] = [{"n": 1, "x": 0.5, "ok": True, "w": "a"}, {"x": math.inf}]
    dtypes = {"n": COUNT, "x": NUMBER, "ok": TRUTH, "w": CATEGORY}
    frame = build_frame(rows, tuple(dtypes), dtypes)
    back = to_rows(frame)
    assert back == [rows[0], {"n": None, "x": math.inf, "ok": None, "w": None}]
    assert not any(isinstance(value, np.generic) for row in back for value in row.values())
