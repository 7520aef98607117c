"""Tables whose numbers cannot be right, and tables that are merely odd."""

from pathlib import Path

import pytest

from ecrl.analysis.external_table.cells import measure_precision
from ecrl.analysis.threats.base import TABLE_FLAWS
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.render import render
from ecrl.report.sections import interpretation
from tests.unit.analysis.external_table.table_builder import GAINS, Cells, evidence_of, goodput, load, make_rows


def test_an_honest_table_has_no_flaw_and_may_be_called_a_gain(tmp_path: Path) -> None:
    walls = {f"{v}_wall_s": lambda i, v=v: f"{1600 / goodput(i, f'{v}_goodput'):.2f}" for v in ("blk", "ovl")}
    found = load(tmp_path, make_rows(**walls, ref_goodput=lambda i: f"{goodput(i, 'ovl_goodput') * 1.1:.4f}"))
    assert found.threats.flaws == []
    assert found.threats.veto_codes == []
    assert set(found.threats.clear) >= TABLE_FLAWS
    assert "a gain" in markdown(interpretation.PLUGIN.blocks(found, {}))


# -- the eight tables of a hostile reader ---------------------------------------------------------------------

FLAWED: dict[str, tuple[list[Cells], str, tuple[str, ...]]] = {
    "goodput and wall-clock rise together": (
        make_rows(
            blk_wall_s=lambda i: f"{1600 / goodput(i, 'blk_goodput'):.2f}",
            ovl_wall_s=lambda i: f"{1600 / goodput(i, 'blk_goodput') * 1.075:.2f}",
        ),
        "table_contradicts_itself",
        ("row 1: blk_goodput x blk_wall_s = 1599.96", "but ovl_goodput x ovl_wall_s = 1756.11; row 2", "and 5 more"),
    ),
    "every ratio has the other sign": (
        make_rows(ovl_vs_blk=lambda i: f"{-GAINS[i]:.4f}"),
        "table_contradicts_itself",
        ("row 1: ovl_vs_blk says -0.021, ovl_goodput / blk_goodput - 1 is 0.021 (used)", "and 5 more"),
    ),
    "a ratio of another size": (
        make_rows(ovl_vs_blk=lambda i: "0.001" if i == 3 else f"{GAINS[i]:.3f}"),
        "table_contradicts_itself",
        ("row 4: ovl_vs_blk says 0.001", "is 0.02699 (used)"),
    ),
    "more stall than wall-clock": (
        make_rows(
            blk_wall_s=lambda i: f"{1600 / goodput(i, 'blk_goodput'):.2f}",
            blk_stall_s=lambda i: "500.0" if i == 2 else 20 + i / 10,
        ),
        "impossible",
        ("row 3: blocking stalls 500 s in a wall-clock of 39",),
    ),
    "engines faster than their reference": (
        make_rows(ref_goodput=lambda i: f"{goodput(i, 'blk_goodput') * (0.6 + i / 1000):.4f}"),
        "impossible",
        ("blocking is 1.657 times as fast as training without checkpoints [", "most in row 1 (1.667)"),
    ),
    "stall 1,000 times as large in half of the rows": (
        make_rows(
            blk_stall_s=lambda i: (11 + i / 7) * (1000 if i % 2 else 1),
            ovl_stall_s=lambda i: (5 + i / 7) * (1000 if i % 2 else 1),
        ),
        "units",
        ("blk_stall_s is 11 in row 1 and 11714.3 in row 6, 1,065 times as much",),
    ),
    "the stall of one model in milliseconds": (
        make_rows(blk_stall_s=lambda i: (11 + i / 7) * (1000 if i // 2 % 2 else 1)),
        "units",
        ("blk_stall_s is 11", "times as much"),
    ),
    "goodput in samples and in steps": (
        make_rows(ovl_goodput=lambda i: f"{goodput(i, 'ovl_goodput') * 128:.2f}", ovl_vs_blk=lambda _: ""),
        "units",
        ("row 1: blk_goodput 9.1, ovl_goodput 1189.2", "100 times apart"),
    ),
    "two restarts against none": (
        make_rows(blk_restarts=lambda _: 2, ovl_restarts=lambda i: 0 if i == 4 else 2),
        "unequal_failures",
        ("row 5: 2 restarts of blocking against 0 of overlapped",),
    ),
    "each row three times": (
        [row | {"failure": f"{row['failure'].partition(':')[0]}{c}"} for c in "abc" for row in make_rows()[:3]],
        "duplicate_rows",
        ("row 1 again in row 4, row 7 (blk_goodput 9.1, ", "row 3 again in row 6, row 9"),
    ),
    "all ratios equal to the last digit": (
        make_rows(
            ovl_goodput=lambda i: f"{goodput(i, 'blk_goodput') * 1.02:.6f}", ovl_vs_blk=lambda _: "0.02"
        ),
        "no_spread",
        ("overlapped / blocking is 1.02 in all 8 rows",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAWED)
def test_a_table_that_cannot_be_right_is_named_and_called_neither_gain_nor_loss(tmp_path: Path, name: str) -> None:
    rows, code, facts = FLAWED[name]
    found = load(tmp_path, rows)
    said = evidence_of(found, code)
    assert all(fact in said for fact in facts), said
    assert {threat.code for threat in found.threats.flaws} == {code}
    text = markdown(interpretation.PLUGIN.blocks(found, {}))
    assert f"`{code}`" in text
    for word in ("a gain larger", "a loss larger", "holds in every", "stalls", "keeps"):
        assert word not in text
    render(found, tmp_path / "out")
    assert f"`{code}`" in (tmp_path / "out" / "x_report.md").read_text()
    assert f"{code},found,blocks" in (tmp_path / "out" / "x_threats.csv").read_text()


def test_models_of_another_size_are_no_other_unit(tmp_path: Path) -> None:
    """A model 500 times as large: its stalls are as long as its steps are."""
    large = {i for i in range(8) if i // 2 % 2}
    rows = make_rows(
        blk_goodput=lambda i: f"{goodput(i, 'blk_goodput') / (500 if i in large else 1):.6f}",
        ovl_goodput=lambda i: f"{goodput(i, 'ovl_goodput') / (500 if i in large else 1):.6f}",
        ovl_vs_blk=lambda _: "",
        blk_stall_s=lambda i: (11 + i / 7) * (500 if i in large else 1),
    )
    assert load(tmp_path, rows).threats.flaws == []


def test_means_over_seeds_are_not_called_contradictions(tmp_path: Path) -> None:
    """The geometric mean of goodput times the arithmetic mean of wall-clock is a little more than the steps."""
    rows = make_rows(
        blk_wall_s=lambda i: f"{1600 / goodput(i, 'blk_goodput') * 1.004:.3f}",
        ovl_wall_s=lambda i: f"{1600 / goodput(i, 'ovl_goodput'):.3f}",
        n_seeds=lambda _: 3,
    )
    assert load(tmp_path, rows).threats.flaws == []


@pytest.mark.parametrize(
    ("texts", "value", "half_unit"),
    [
        (["9.10", "10.25"], 9.1, 0.005),
        (["10", "10.2"], 10.0, 0.05),  # the last zero is not printed
        (["1234", "12.34", "0.1234"], 1234.0, 0.5),  # four significant digits
        (["123456789", "1e-09"], 123456789.0, 0.5),
        (["4.0%"], 0.04, 0.0005),
    ],
)
def test_a_cell_is_as_precise_as_its_quantity_is_printed(texts: list[str], value: float, half_unit: float) -> None:
    precision = measure_precision(texts)
    assert precision is not None
    assert precision.get_half_unit(value) == pytest.approx(half_unit)
