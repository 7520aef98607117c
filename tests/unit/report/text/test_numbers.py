"""Numbers in a report have the digits that their intervals allow, and no digit that decides is dropped."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecrl.analysis.run.metrics import empty_row
from ecrl.analysis.statistics.compare import Comparison, Effect, compare
from ecrl.report.text.numbers import (
    align,
    bounds,
    effect,
    estimate,
    format_fixed,
    interval,
    number,
    p_value,
    percent,
    percents,
)


@pytest.mark.parametrize(
    ("low", "high", "null", "text"),
    [
        (1.0004, 1.038, 1.0, "[1.0004, 1.0380]"),
        (1.0004, 1.038, None, "[1.000, 1.038]"),
        (0.98, 1.0002, 1.0, "[0.9800, 1.0002]"),
        (5.10312, 10.29345, 0.0, "[5.1, 10.3]"),
        (-0.0004, 3.0, 0.0, "[-0.0004, 3.0000]"),
        (1234.5, 5678.9, 0.0, "[1,234, 5,679]"),
        (-1e-12, 3.0, 0.0, "[0.0, 3.0]"),  # the null but for rounding of floats
        (3.0, 3.0, 0.0, "[3, 3]"),
        (0.2, math.inf, 1.0, "[0.2, ∞]"),
        (None, None, 1.0, "–"),
    ],
)
def test_both_ends_have_the_decimals_of_the_half_width_and_what_tells_them_from_no_effect(
    low: float | None, high: float | None, null: float | None, text: str
) -> None:
    assert interval(low, high, null) == text


@given(st.floats(1e-3, 1e3), st.floats(1e-6, 1e3), st.sampled_from([0.0, 1.0]))
def test_a_bound_beside_the_null_never_reads_as_the_null(low: float, width: float, null: float) -> None:
    high = low + width
    center, *ends = align(((low + high) / 2, low, high), low, high, null)
    assert len({len(text.partition(".")[2]) for text in (center, *ends)}) == 1
    for bound, text in zip((low, high), ends, strict=True):
        shown = float(text.replace(",", ""))
        assert (shown == null) <= math.isclose(bound, null, rel_tol=0, abs_tol=1e-9)


def test_a_center_has_the_decimals_of_its_interval() -> None:
    assert effect(Effect(8, 1.0193, 1.0004, 1.038), 1.0) == "1.0193 [1.0004, 1.0380]"
    assert effect(Effect(8, 7.698, 5.1, 10.29)) == "7.7 [5.1, 10.3]"
    assert effect(Effect(1, 1.23456, None, None)) == "1.235"
    assert effect(None) == "–"
    assert percents(Effect(8, 1.0193, 1.0004, 1.038)) == ("+1.93 %", "[+0.04 %, +3.80 %]")
    assert percents(Effect(1, 1.0193, None, None)) == ("+1.93 %", "–")


def test_no_number_is_a_negative_zero() -> None:
    assert percent(0.99999) == "+0.00 %"
    assert format_fixed(-0.0001, 2) == "0.00"
    assert percents(Effect(8, 0.9999999, 0.97, 1.03))[0] == "+0.0 %"


def made(*suites: list[float]) -> Comparison:
    rows = [
        empty_row(suite_id=f"s{i}", seed=seed, variant=variant, wall_s=10 * (value if variant == "a" else 1))
        for i, own in enumerate(suites)
        for seed, value in enumerate(own)
        for variant in "ab"
    ]
    return compare(rows, "a", "b", "wall_s", "ratio", {})


def test_where_units_are_too_few_the_words_stand_in_place_of_an_interval() -> None:
    assert estimate(made([1.1], [1.2])) == "1.15 (too few seeds)"
    assert bounds(made([1.1, 1.2])) == "too few seeds"  # one degree of freedom
    assert bounds(made([1.1, 1.2, 1.3])).startswith("[")
    assert estimate(made()) == "–"
    assert bounds(made(*[[1.1], *[[]] * 5])) == "too few seeds"


@pytest.mark.parametrize(
    ("value", "text"), [(1 - 1e-9, "+0.00 %"), (0.9999, "-0.01 %"), (1.02, "+2.00 %"), (0.99996, "+0.00 %")]
)
def test_a_zero_has_no_minus(value: float, text: str) -> None:
    assert percent(value) == text
    assert format_fixed(-0.001) == "0.00"
    assert format_fixed(-0.006) == "-0.01"


def test_numbers_are_written_for_people() -> None:
    assert [number(v) for v in (None, 3, 1234567.8, 0.012342, 0.0, float("inf"))] == [
        "–", "3", "1,234,568", "0.01234", "0", "∞",
    ]  # fmt: skip
    assert (percent(1.0365), format_fixed(1234.567), p_value(1e-9), interval(None, 2)) == (
        "+3.65 %",
        "1,234.57",
        "< 0.0001",
        "–",
    )
