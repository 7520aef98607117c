"""What a table and its manifest support: pairs, seeds, statuses, steps, and the words of the report."""

from pathlib import Path

import pytest

from ecrl.report.formats.markdown import markdown
from ecrl.report.sections import integrity, interpretation, results, scope, threats
from tests.errors import raises
from tests.unit.analysis.external_table.table_builder import (
    GAINS,
    Cells,
    evidence_of,
    goodput,
    load,
    make_manifest,
    make_rows,
)

# -- pairs, references, seeds ---------------------------------------------------------------------------------


def test_pairs_are_counted_and_not_suites(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(blk_goodput=lambda i: "" if i < 3 else f"{goodput(i, 'blk_goodput'):.4f}"))
    assert "overlapped/blocking: 5 pairs" in evidence_of(found, "n_pairs_lt_6")
    assert "it alone is missing, so not at random; no goodput of blocking in 3 rows" in (
        evidence_of(found, "missing_blocks")
    )
    assert found.whole_basis == "over 5 whole rows (3 rows left out)"
    assert "Means over 5 whole rows (3 rows left out)" in markdown(results.PLUGIN.blocks(found, {}))
    assert "1 times" not in markdown(scope.PLUGIN.blocks(found, {}))


def test_rows_that_lack_either_variant_are_missing_but_not_one_sided(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        make_rows(
            blk_goodput=lambda i: "" if i == 0 else f"{goodput(i, 'blk_goodput'):.4f}",
            ovl_goodput=lambda i: "" if i == 1 else f"{goodput(i, 'ovl_goodput'):.4f}",
        ),
    )
    assert {threat.blocking for threat in found.threats.found if threat.code == "missing_blocks"} == {False}


def test_means_say_on_how_many_rows_they_rest(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(ovl_stall_s=lambda i: "" if i == 2 else 5 + i / 3))
    assert found.whole_basis == "over 8 whole rows, stall_s of overlapped over 7 of 8"


def test_an_empty_reference_column_is_no_reference(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(ref_goodput=lambda _: ""))
    assert found.variants == ("blocking", "overlapped")
    evidence_of(found, "no_reference", blocking=False)
    assert any("no reference (ref_goodput)" in text for text in found.unsupported)


def test_the_fewest_seeds_decide(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(n_seeds=lambda i: 30 if i == 0 else 1))
    assert "one seed stands behind row 2, row 3, row 4 and 4 more" in evidence_of(found, "one_seed")


def test_rows_of_several_seeds_are_blocks_of_one_suite(tmp_path: Path) -> None:
    rows = [
        row | {"seed": seed, "blk_goodput": f"{float(row['blk_goodput']) + seed / 100:.4f}", "ovl_vs_blk": ""}
        for row in make_rows()[:2]
        for seed in (1, 2, 3)
    ]
    found = load(tmp_path, rows)
    c = found.compare(*found.headline)  # type: ignore[misc]
    assert (len(c.pairs), c.n_suites, found.seeds) == (6, 2, (1, 2, 3))
    assert c.suites["cifar10-resnet18-base"].low is not None
    assert "one_seed" in found.threats.clear
    with raises("ECRL-707", "rows 1 and 7", "cifar10-resnet18-base, seed 1", "column `seed`"):
        load(tmp_path, [*rows, rows[0]])


# -- the manifest ---------------------------------------------------------------------------------------------


def test_seeds_statuses_and_steps_of_the_manifest_are_used_and_nothing_contradicts_them(tmp_path: Path) -> None:
    statuses = ["interrupted", "skipped_exists", *["completed"] * 6]
    found = load(tmp_path, make_rows(), make_manifest(status=lambda i: statuses[i]))
    assert found.seeds == (1337,)
    assert "every row" in evidence_of(found, "one_seed")
    assert "cifar10-resnet18-base (interrupted)" in evidence_of(found, "interrupted")
    assert "cifar10-resnet18-late" in evidence_of(found, "reused_runs", blocking=False)
    assert not {"one_seed", "interrupted", "reused_runs"} & {*found.threats.clear, *found.threats.not_checked}
    assert not any("how many seeds" in text for text in found.unsupported)
    assert found.rows[0]["wall_s"] == pytest.approx(1600 / goodput(0, "blk_goodput"))
    stall = sum(float(r["blk_stall_s"]) - float(r["ovl_stall_s"]) for r in make_rows()) / 8
    wall = sum(1600 / goodput(i, "blk_goodput") - 1600 / goodput(i, "ovl_goodput") for i in range(8)) / 8
    reach = f"{wall:.2f} s of {stall:.2f} s saved stall reach wall-clock ({wall / stall * 100:.0f} %)"
    assert reach in markdown(interpretation.PLUGIN.blocks(found, {}))


def test_a_suite_that_did_not_end_keeps_the_claims_open(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(), make_manifest(status=lambda i: "failed" if i == 5 else "odd"))
    assert "cifar100-resnet18-late (failed)" in evidence_of(found, "interrupted")
    assert "m.csv: row 1, column status: 'odd' is no status" in found.warnings[0]
    assert "interrupted" not in load(tmp_path, make_rows(), make_manifest()).threats.veto_codes


def test_suites_whose_seeds_differ_are_named(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows(), make_manifest(seeds=lambda i: "1;2" if i else "7;8"))
    assert found.seeds == (1, 2, 7, 8)
    assert any("different seeds (2 sets): 7, 8 in cifar10-resnet18-base; 1, 2 in" in text for text in found.warnings)
    assert "one_seed" in found.threats.clear


@pytest.mark.parametrize(
    ("row", "plan", "fact"),
    [
        ({"n_seeds": 3}, {}, "row 1: n_seeds 3, the manifest has 1"),
        ({"checkpoint_every": 25}, {}, "row 1: checkpoint_every 25, the manifest says 50"),
        ({"steps": 800}, {}, "row 1: steps 800, the manifest says 1600"),
        ({"seed": 9}, {}, "row 1: seed 9, the manifest has 1337"),
        ({}, {"failure_steps": "300"}, "row 1: failure_steps 400;1200, the manifest says 300"),
    ],
)
def test_a_manifest_that_says_otherwise_is_a_contradiction(tmp_path: Path, row: Cells, plan: Cells, fact: str) -> None:
    changes = {column: lambda i, v=value: v if i == 0 else "" for column, value in row.items()}
    planned = {column: lambda i, v=value: v if i == 0 else "" for column, value in plan.items()}
    found = load(tmp_path, make_rows(**changes), make_manifest(**planned))
    assert fact in evidence_of(found, "table_contradicts_itself")


def test_of_several_suites_of_a_manifest_the_one_that_fits_is_used(tmp_path: Path) -> None:
    both = [row | {"checkpoint_every": every, "steps": steps} for every, steps in ((25, 900), (50, 1600))
            for row in make_manifest()]  # fmt: skip
    found = load(tmp_path, make_rows(checkpoint_every=lambda _: 50), both)
    assert {row["steps"] for row in found.rows} == {1600}
    assert found.threats.flaws == []
    unclear = load(tmp_path, make_rows(), both)
    assert {(row["steps"], row["checkpoint_every"]) for row in unclear.rows} == {(None, None)}
    assert unclear.seeds == (1337,)


# -- what the words say ---------------------------------------------------------------------------------------


def test_without_steps_it_is_said_where_the_saved_stall_would_show(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows())
    text = markdown(interpretation.PLUGIN.blocks(found, {}))
    needed = sorted(
        (float(row["blk_stall_s"]) - float(row["ovl_stall_s"]))
        / (1 / float(row["blk_goodput"]) - 1 / float(row["ovl_goodput"]))
        for row in make_rows()
    )
    middle = (needed[3] + needed[4]) / 2
    assert f"only at {needed[0]:,.0f} to {needed[-1]:,.0f} steps a run (median {middle:,.0f}), in 8 rows of 8" in text
    assert "No association is shown between the stall saved and the logarithm of the goodput ratio" in text


def test_boundary_failures_are_decided_by_divisibility(tmp_path: Path) -> None:
    found = load(tmp_path, make_rows())
    said = evidence_of(found, "replay_untested", blocking=False)
    assert "multiple of 200" in said
    assert "(200, 100, 50 and so on)" in said
    inside = load(tmp_path, make_rows(failure=lambda i: f"f{i}:{413 + 7 * i}"))
    assert "replay_untested" not in {threat.code for threat in inside.threats.found}


def test_many_names_are_counted_and_one_sentence_stands_for_what_needs_records(tmp_path: Path) -> None:
    rows = [row | {"dataset": f"d{n}-{i}"} for n in range(20) for i, row in enumerate(make_rows())]
    rows = [
        row | {"blk_goodput": f"{float(row['blk_goodput']) + n / 31:.4f}", "ovl_vs_blk": "",
               "blk_stall_s": 11 + n / 3}
        for n, row in enumerate(rows)
    ]  # fmt: skip
    found = load(tmp_path, [row | {"ovl_goodput": ""} if n % 2 else row for n, row in enumerate(rows)])
    blocks = [block for part in (integrity, results, threats) for block in part.PLUGIN.blocks(found, {})]
    lines = [line for line in markdown(blocks).splitlines() if not line.startswith("|")]
    assert max(map(len, lines)) < 1500
    assert sum("needs records, which a table does not have" in line for line in lines) == 1
    assert any("25 more conditions" in line and "`x_threats.csv` lists them" in line for line in lines)


def test_an_interaction_and_a_suite_that_carries_the_effect_stand_in_the_report(tmp_path: Path) -> None:
    rows = [
        row | {"failure": f"f{n}", "ovl_vs_blk": "", "blk_goodput": 5 + n / 50,
               "ovl_goodput": round((5 + n / 50) * ((1.10 if row["model"] == "resnet18" else 0.92) + n / 999), 4)}
        for n, row in enumerate([*make_rows(), *make_rows()[:4]])
    ]  # fmt: skip
    found = load(tmp_path, rows)
    said = evidence_of(found, "interaction", blocking=False)
    assert "depends on model: resnet18 +10.45 %" in said
    assert "resnet50 -7.35 %" in said
    assert "the average hides this" in said
    assert said in markdown(results.PLUGIN.blocks(found, {}))
    one = [row | {"ovl_goodput": round(row["blk_goodput"] * (2.0 if n == 7 else 0.995 + n / 9999), 4)}
           for n, row in enumerate(rows[:8])]  # fmt: skip
    said = evidence_of(load(tmp_path, one), "outlier", blocking=False)
    assert "hangs on one suite; without cifar100-resnet50-f7: 0.995" in said


def test_data_sets_are_a_nuisance_by_the_ratio_and_not_by_the_level(tmp_path: Path) -> None:
    def level(i: int) -> float:
        return 9.1 + 4 * (i > 3) + i / 99

    honest = {"blk_goodput": level, "ovl_goodput": lambda i: round(level(i) * (1 + GAINS[i]), 4)}
    far = load(tmp_path, make_rows(ovl_vs_blk=lambda _: "", **honest))
    assert "nuisance_gt_effect" in far.threats.clear  # 40 % between the levels, 0.1 % between the ratios
    other = {"ovl_goodput": lambda i: round(goodput(i, "blk_goodput") * ((1.05 if i > 3 else 0.98) + i / 999), 4)}
    apart = load(tmp_path, make_rows(ovl_vs_blk=lambda _: "", **other))
    assert "on cifar100 against" in evidence_of(apart, "nuisance_gt_effect", blocking=False)


def test_a_comma_that_may_be_a_decimal_point_is_refused(tmp_path: Path) -> None:
    with raises("ECRL-707", "row 1, column blk_stall_s", "'11,796'", "11.796 or 11796", "7 more bad cells"):
        load(tmp_path, make_rows(blk_stall_s=lambda i: f"11,79{6 - i % 2}"))
    for other in ("1,234.5", "1,234,567", "12.5"):
        found = load(tmp_path, make_rows(blk_stall_s=["11,796", *[other] * 7].__getitem__))
        assert found.rows[0]["stall_s"] == 11796
