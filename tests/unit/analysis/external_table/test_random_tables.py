"""What a random table may never do, with an independent search for what is wrong in it."""

import csv
import itertools
import math
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecrl.report.pages.render import render
from tests.errors import raises
from tests.unit.analysis.external_table.table_builder import load

RATES = st.sampled_from(["", "1", "5.0", "5.1", "4.9", "0.5", "1e3", "1e-9", "nan"])
DIFFERENCES = st.sampled_from(["", "0", "0.02", "-0.1", "4"])
RESTARTS = st.sampled_from(["", "0", "2"])
ROW = st.fixed_dictionaries(
    {
        "dataset": st.sampled_from(["a", "b", "=cmd|' /C calc'!A0", "<img onerror=x>"]),
        "model": st.sampled_from(["m", "`m`", "n"]),
        "failure": st.sampled_from(["base:400,1200", "none", "f|g", "late:7", "-x"]),
        **dict.fromkeys(("blk_goodput", "ovl_goodput", "ref_goodput", "blk_wall_s", "ovl_wall_s"), RATES),
        **dict.fromkeys(("blk_stall_s", "ovl_stall_s"), st.just("0") | RATES),
        **dict.fromkeys(("ovl_vs_blk", "ovl_minus_blk_loss_diff"), DIFFERENCES),
        **dict.fromkeys(("blk_restarts", "ovl_restarts"), RESTARTS),
    }
)
TABLES = st.lists(ROW, min_size=1, max_size=9)
BAD = st.sampled_from(["x", "3,5", "1e99", "-7", "5 s", "²"])
NAMES = st.sampled_from(["blk_goodput", "ovl_stall_s", "ovl_wall_s"])


def brute_force(rows: list[dict[str, str]]) -> set[str]:
    """Flaws far beyond any rounding, from the texts of the cells alone."""

    def get(row: dict[str, str], column: str) -> float | None:
        text = row[column].replace(",", "")
        return None if text in ("", "nan") else float(text)

    found = set()
    logs: dict[str, list[float]] = {"blk": [], "ovl": []}
    for row in rows:
        blk, ovl, ref = (get(row, f"{short}_goodput") for short in ("blk", "ovl", "ref"))
        wall_b, wall_o, said, stall = (get(row, c) for c in ("blk_wall_s", "ovl_wall_s", "ovl_vs_blk", "blk_stall_s"))
        if blk and ovl and wall_b and wall_o and not 0.25 < blk * wall_b / (ovl * wall_o) < 4:
            found.add("table_contradicts_itself")
        if blk and ovl and said is not None and abs(said - (ovl / blk - 1)) > 1.5 + 0.7 * ovl / blk:
            found.add("table_contradicts_itself")
        if stall is not None and wall_b is not None and stall > 2 * wall_b + 1:
            found.add("impossible")
        if {row["blk_restarts"], row["ovl_restarts"]} == {"0", "2"}:
            found.add("unequal_failures")
        if blk and ovl and not 0.0101 < blk / ovl < 99:
            found.add("units")
        for name, goodput_ in (("blk", blk), ("ovl", ovl)):
            logs[name] += [math.log(goodput_ / ref)] if goodput_ and ref else []
    for values in logs.values():
        if len(values) > 1 and min(values) > 0 and max(values) - min(values) < 1e-12:
            found.add("impossible")
    columns = ("blk_goodput", "ovl_goodput", "blk_stall_s", "ovl_stall_s", "ovl_minus_blk_loss_diff")
    for one, other in itertools.combinations(rows, 2):
        if sum(bool(x := get(one, c)) and x == get(other, c) for c in columns) >= 3:
            found.add("duplicate_rows")
    return found


@settings(max_examples=10, deadline=None, derandomize=True)
@given(TABLES)
def test_a_random_table_is_reported_whole_and_with_every_flaw(rows: list[dict[str, str]]) -> None:
    check(rows)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@settings(max_examples=200, deadline=None)
@given(TABLES)
def test_two_hundred_random_tables_are_reported_whole_and_with_every_flaw(rows: list[dict[str, str]]) -> None:
    check(rows)


def check(rows: list[dict[str, str]]) -> None:
    rows = [row | {"seed": str(n)} for n, row in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        found = load(Path(folder), rows)
        render(found, Path(folder) / "out")
        text = (Path(folder) / "out" / "x_report.md").read_text()
        tables = [path.read_text().splitlines() for path in Path(folder, "out").glob("*.csv")]
    codes = {threat.code for threat in found.threats.flaws}
    assert brute_force(rows) <= codes
    has_pairs = any(row["goodput_steps_per_s"] for row in found.rows)
    assert not codes or not has_pairs or "Nothing here is called a gain or a loss" in text
    assert not re.search(r"-0\.00+(?!\d)", text)
    cells = [cell for lines in tables for line in csv.reader(lines) for cell in line]
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+", "-x"))]
    assert "<img" not in text.replace("\\<img", "")


@settings(max_examples=15, deadline=None, derandomize=True)
@given(TABLES, st.integers(0, 8), NAMES, BAD)
def test_a_cell_that_is_no_number_is_refused_by_its_name(
    rows: list[dict[str, str]], place: int, column: str, bad: str
) -> None:
    rows = [row | {"seed": str(n)} for n, row in enumerate(rows)]
    place %= len(rows)
    rows[place][column] = bad
    with tempfile.TemporaryDirectory() as folder, raises("ECRL-707", f"row {place + 1}, column {column}"):
        load(Path(folder), rows)
