from pathlib import Path

import pytest

from ecrl.analysis.external_table.manifest import read_manifest
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.threats.base import TABLE_FLAWS
from ecrl.errors import EcrlError
from ecrl.records.columns import DETAILED_COLUMNS

HEADER = ",".join(DETAILED_COLUMNS)
ROWS = [
    'cifar10,resnet18,"base:400,1200",5.0,5.2,0.04,30.0,2.0,0.001',
    'cifar10,resnet18,"late:800,1400",5.0,5.1,0.02,31.0,2.0,-0.003',
    'cifar100,resnet18,"base:400,1200",4.8,4.9,0.0208,30.4,2.2,0.002',
    'cifar100,resnet18,"late:800,1400",4.8,4.75,-0.0104,30.5,2.1,0.0',
]


def table(tmp_path: Path, rows: list[str], header: str = HEADER, name: str = "old_detailed_table.csv") -> Path:
    path = tmp_path / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def with_cell(column: str, text: str) -> list[str]:
    cells = ["cifar10", "resnet18", '"base:400,1200"', "5.0", "5.2", "0.04", "30.0", "2.0", "0.001"]
    cells[DETAILED_COLUMNS.index(column)] = text
    return [",".join(cells), *ROWS[1:]]


def test_nine_columns_are_enough(tmp_path: Path) -> None:
    found = load_table_evidence(table(tmp_path, ROWS))
    assert (found.prefix, found.source, found.variants) == ("old", "table", ("blocking", "overlapped"))
    c = found.compare("overlapped", "blocking")
    assert c.overall is not None
    assert c.overall.center == pytest.approx((5.2 / 5 * 5.1 / 5 * 4.9 / 4.8 * 4.75 / 4.8) ** 0.25)
    assert (len(c.pairs), c.suites_above) == (4, 3)
    assert found.loss_differences["cifar10-resnet18-late"] == -0.003
    assert found.suites["cifar10-resnet18-base"]["failure_steps"] == "400;1200"
    assert found.warnings == ()


@pytest.mark.parametrize("name", ["NA", "None", "nan", "007", "1e3", "true"])
def test_a_name_that_could_be_a_missing_value_or_a_number_stays_a_name(tmp_path: Path, name: str) -> None:
    rows = [row.replace("cifar10,", f"{name},") for row in ROWS]
    found = load_table_evidence(table(tmp_path, rows))
    assert {row["dataset"] for row in found.rows} == {name, "cifar100"}
    assert {value["dataset"] for value in found.suites.values()} == {name, "cifar100"}
    assert {row["dataset"] for row in to_rows(found.frame)} == {name, "cifar100"}


def test_it_says_what_it_cannot_support(tmp_path: Path) -> None:
    said = "\n".join(load_table_evidence(table(tmp_path, ROWS)).unsupported)
    for words in (
        "No claim can be CONFIRMED",
        "does not say how many seeds",
        "no reference (ref_goodput)",
        "No interference",
        "step is a multiple of 200",
        "signed difference",
        "correctness of recovery",
        "No verdict per sub-table below 6 suites: dataset = cifar10",
    ):
        assert words in said


def test_a_manifest_tells_intervals_and_shows_that_replay_is_zero_by_construction(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    lines = [f"{d},resnet18,{f},50,1337,completed" for d in ("cifar10", "cifar100") for f in ("base", "late")]
    manifest.write_text(
        "\n".join(["dataset,model,failure_label,checkpoint_every,seeds,status,colour", *[f"{x},red" for x in lines]])
    )
    found = load_table_evidence(table(tmp_path, ROWS), manifest)
    assert found.seeds == (1337,)
    assert any("replay is zero by construction" in text for text in found.unsupported)
    assert {"replay_untested", "single_interval"} <= {threat.code for threat in found.threats.found}
    assert found.warnings == ("m.csv: column 'colour' is not known and was left out",)
    assert found.statuses["cifar10-resnet18-base"] == "completed"


def test_optional_columns_are_used_where_they_are_there(tmp_path: Path) -> None:
    header = f"{HEADER},ref_goodput,blk_wall_s,ovl_wall_s,blk_correct,ovl_correct,n_seeds"
    found = load_table_evidence(
        table(tmp_path, [f"{row},6.0,320,310,true,{'no' if i else 'yes'},1" for i, row in enumerate(ROWS)], header)
    )
    assert found.variants == ("reference", "blocking", "overlapped")
    blocking = next(row for row in found.rows if row["variant"] == "blocking")
    assert (blocking["rel_goodput"], blocking["wall_s"], blocking["correct"]) == (pytest.approx(5 / 6), 320, True)
    assert {"one_seed", "correctness_failed"} <= set(found.threats.veto_codes)


def test_empty_cells_are_missing_and_never_zero(tmp_path: Path) -> None:
    found = load_table_evidence(table(tmp_path, with_cell("ovl_goodput", "")))
    c = found.compare("overlapped", "blocking")
    assert len(c.pairs) == 3
    assert c.missing == (("cifar10-resnet18-base", None, "no goodput of overlapped"),)


@pytest.mark.parametrize(
    ("column", "text", "warning", "value"),
    [
        ("ovl_vs_blk", "4.0%", "'4.0%' is read as 4.0 percent", None),
        ("blk_stall_s", '"1,234.5"', "the commas separate thousands", 1234.5),
        ("blk_stall_s", "NaN", "'NaN' is read as a missing value", None),
        ("failure", "chaos", "'chaos' gives no steps (like base:400,1200); it is used as a label", None),
    ],
)
def test_odd_cells_are_read_with_a_named_warning(
    tmp_path: Path, column: str, text: str, warning: str, value: float | None
) -> None:
    found = load_table_evidence(table(tmp_path, with_cell(column, text)))
    assert len(found.warnings) == 1
    assert warning in found.warnings[0]
    assert f"row 1, column {column}" in found.warnings[0]
    if column == "blk_stall_s":
        assert found.rows[0]["stall_s"] == value


@pytest.mark.parametrize(
    ("column", "text", "words"),
    [
        ("blk_goodput", "fast", "row 1, column blk_goodput: found 'fast', expected a number"),
        ("blk_goodput", "0", "row 1, column blk_goodput: found '0', expected a finite number above 0"),
        ("ovl_goodput", "-1", "row 1, column ovl_goodput: found '-1', expected a finite number above 0"),
        ("ovl_stall_s", "-1", "found '-1', expected a finite number of at least 0"),
        ("blk_stall_s", "inf", "found 'inf', expected a finite number of at least 0"),
        ("ovl_vs_blk", '"1,2"', "found '1,2', expected a number"),
        ("dataset", "", "row 1, column dataset: found it empty, expected a name"),
        ("dataset", "a\0b", "row 1, column dataset: found 'a\\x00b', expected a name of printable characters"),
        ("failure", "f" * 5000, "…', expected a name of printable characters, at most 120"),
        ("blk_goodput", "1e308", "row 1, column blk_goodput: found '1e308', expected a number from 1e-12 to 1e+15"),
        ("ovl_goodput", "1e-300", "row 1, column ovl_goodput: found '1e-300', expected a number from"),
        ("blk_stall_s", "9" * 5000, "row 1, column blk_stall_s: found '9999999999999999999999999999999999999999…'"),
    ],
)
def test_bad_cells_are_named_by_row_and_column(tmp_path: Path, column: str, text: str, words: str) -> None:
    with pytest.raises(EcrlError) as error:
        load_table_evidence(table(tmp_path, with_cell(column, text)))
    assert words in str(error.value)
    assert str(error.value).count("\n") <= 2


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (HEADER.replace("blk_stall_s", "blk_stal_s"), ROWS, "missing columns: blk_stall_s. Did you mean 'blk_stal_s'?"),
        (HEADER + ",dataset", [row + ",x" for row in ROWS], "column 'dataset' stands there twice"),
        (HEADER, [], "found a header and no rows"),
        (HEADER, ["cifar10,resnet18,base:400,1200,5,5.2,0.04,30,2,0.001"], "row 1 has 10 cells, expected 9"),
        (HEADER, [ROWS[0], ROWS[0]], "rows 1 and 2 are the same suite (cifar10-resnet18-base)"),
        ("", [], "missing columns: dataset, model"),
    ],
)
def test_tables_of_another_shape_are_refused_with_the_reason(
    tmp_path: Path, header: str, rows: list[str], words: str
) -> None:
    with pytest.raises(EcrlError) as error:
        load_table_evidence(table(tmp_path, rows, header))
    assert words in str(error.value)
    assert str(error.value).count("\n") <= 2


def test_unknown_columns_are_left_out_by_name(tmp_path: Path) -> None:
    found = load_table_evidence(table(tmp_path, [row + ",1" for row in ROWS], HEADER + ",blk_wall"))
    assert found.warnings == ("column 'blk_wall' is not known and was left out. Did you mean 'blk_wall_s'?",)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'a,"b\nc', b""])
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(EcrlError):
        load_table_evidence(path)
    with pytest.raises(EcrlError):
        load_table_evidence(tmp_path / "absent.csv")


def test_manifests_that_are_none_are_refused_and_odd_cells_named(tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    manifest.write_text("dataset,model,failure\n")
    with pytest.raises(EcrlError, match="missing columns: failure_label"):
        load_table_evidence(table(tmp_path, ROWS), manifest)
    manifest.write_text(
        "dataset,model,failure_label,checkpoint_every\ncifar10,resnet18,base,often\ncifar10,resnet18,base,50\n"
    )
    said = "\n".join(load_table_evidence(table(tmp_path, ROWS), manifest).warnings)
    assert "row 1, column checkpoint_every: 'often' is not a whole number; left out" in said
    assert "row 2: the manifest has no suite cifar10, resnet18, late" in said


def test_what_a_table_cannot_show_is_not_called_looked_for(tmp_path: Path) -> None:
    report = load_table_evidence(table(tmp_path, ROWS)).threats
    assert set(report.clear) <= {"nuisance_gt_effect", "outlier", "interaction", "missing_blocks", *TABLE_FLAWS}
    assert {"one_seed", "correctness_failed", "interrupted", "ledger_residual"} <= set(report.not_checked)
    assert "unknown, and blocking until stated" in report.not_checked["one_seed"]
    assert "unknown until stated" in report.not_checked["single_interval"]


@pytest.mark.parametrize("steps", ["400,1200", "400@persist,900", "412.5s"])
def test_failures_are_read_as_ecrl_writes_them(tmp_path: Path, steps: str) -> None:
    found = load_table_evidence(table(tmp_path, with_cell("failure", f'"base:{steps}"')))
    assert found.suites["cifar10-resnet18-base"]["failure_steps"] == steps.replace(",", ";")
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("label", "steps", "said"),
    [
        ("base:400,1200", "400;1200", "every failure strikes on a checkpoint boundary"),
        ("base:400,1225", "400;1225", "the table has no replay column."),
        ("phase:900@persist", "900@persist", "the table has no replay column."),
        ("late:412.5s", "412.5s", "the table has no replay column."),
        ("900@persist", "", "failure steps are unknown"),
        ("odd:400,²", "", "failure steps are unknown"),
        ("arabic:٤٠٠", "", "failure steps are unknown"),
        ("big:" + "9" * 100, "", "failure steps are unknown"),
        ("a:b:c", "", "failure steps are unknown"),
    ],
)
def test_any_failure_label_is_read_as_places_or_as_a_mere_label(
    tmp_path: Path, label: str, steps: str, said: str
) -> None:
    text = table(tmp_path, with_cell("failure", f'"{label}"'))
    lines = text.read_text().splitlines()
    text.write_text("\n".join([lines[0] + ",checkpoint_every", lines[1] + ",50"]) + "\n")
    found = load_table_evidence(text)
    assert {row["failure_steps"] for row in found.rows if row["variant"] != "reference"} == {steps}
    assert any("lost work" in text and said in text for text in found.unsupported)
    assert bool(steps) != any("gives no steps" in warning for warning in found.warnings)


def test_a_suite_without_a_goodput_is_named_and_not_merely_left_out(tmp_path: Path) -> None:
    found = load_table_evidence(table(tmp_path, with_cell("ovl_goodput", "")))
    assert "row 1: no ovl_goodput, so this row is in no comparison" in found.warnings


def test_a_manifests_failures_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(
        "dataset,model,failure_label,failure_steps,checkpoint_every\n"
        "a,m,base,900@persist;412.5s,50\na,m,late,400;boom,²\n"
    )
    warnings: list[str] = []
    plans = read_manifest(path, warnings)
    assert plans[0].failure_steps == "900@persist;412.5s"
    assert (plans[1].failure_steps, plans[1].checkpoint_every) == ("", None)
    assert "row 2, column failure_steps: 'boom' is not a place" in warnings[0]
    assert "row 2, column checkpoint_every: '²' is not a whole number" in warnings[1]
