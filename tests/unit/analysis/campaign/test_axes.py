"""`[axes]` in the analysis: a column for every key, in every run, and what claims, pools and comparisons make of it."""

import csv
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.campaign.axes import format_where, select_rows
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.pool import differences, pool
from ecrl.analysis.claims.before_after import compare_before_after, match_suites
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.run.metrics import get_own_axes
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.records.columns import DETAILED_COLUMNS, DETAILED_OPTIONAL_COLUMNS, RUN_COLUMNS, add_axis_columns
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from ecrl.report.pages.render import render
from tests.unit.analysis.campaign_builder import campaign

AXES = '[axes]\n"train.batch_size" = [4, 8]\n"train.nproc" = [1, 2]\n'
BATCHES = '[axes]\n"train.batch_size" = [4, 8]\n'
CLAIM = """[[claims]]
name = "pays at 8"
compare = ["overlapped", "blocking"]
expect = "ratio > 1.00"
where = { "train.batch_size" = 8 }
"""


def one_set(results: Path, prefix: str = "exp", more: str = AXES, **options: Any) -> CampaignPaths:
    return campaign(results, prefix, datasets=["cifar10"], more=more, **{"seeds": [1], "claims": "", **options})


def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


def without_blocking(run: RunSpec, found: RunRecord) -> RunRecord | None:
    return None if run.variant == "blocking" else found


def test_the_columns_of_a_table_are_followed_by_those_of_axes_that_it_lacks() -> None:
    assert add_axis_columns(("nproc", "steps"), ("train.lr", "train.nproc")) == ("nproc", "steps", "train.lr")
    assert add_axis_columns(("suite_id",), ("train.lr", "train.nproc")) == ("suite_id", "train.lr", "nproc")


def test_every_run_has_the_values_of_its_axes_whether_it_was_started_or_not(tmp_path: Path) -> None:
    found = load_campaign(one_set(tmp_path, change=without_blocking))
    missing = [run for run in found.runs if run.row["outcome"] == "missing"]
    assert len(missing) == 4
    for run in found.runs:
        suite = next(suite for suite in found.suites if suite.suite_id == run.row["suite_id"])
        values = (run.row["train.batch_size"], run.row["nproc"])
        assert values == (suite.train.batch_size, suite.train.nproc)
        assert get_own_axes(run.row) == {"train.batch_size": suite.train.batch_size}
        assert run.label == f"{run.name} (train.batch_size={values[0]}, train.nproc={values[1]})"


@pytest.mark.parametrize(
    ("table", "header", "added"),
    [
        ("runs", RUN_COLUMNS, ("train.batch_size",)),
        ("summary", None, ("train.batch_size", "nproc")),
        ("detailed_table", (*DETAILED_COLUMNS, *DETAILED_OPTIONAL_COLUMNS), ("train.batch_size", "nproc")),
    ],
)
def test_every_table_has_a_column_for_every_axis_behind_its_own(
    tmp_path: Path, table: str, header: tuple[str, ...] | None, added: tuple[str, ...]
) -> None:
    render(evidence(one_set(tmp_path / "results")), tmp_path, ["csv"])
    with (tmp_path / f"exp_{table}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0])[-len(added) :] == added
    assert header is None or tuple(rows[0]) == (*header, *added)
    assert {(row["train.batch_size"], row["nproc"]) for row in rows} == {(b, n) for b in "48" for n in "12"}


def test_tables_without_axes_have_the_columns_that_they_always_had(tmp_path: Path) -> None:
    render(evidence(one_set(tmp_path / "results", more="")), tmp_path, ["csv"])
    assert (tmp_path / "exp_runs.csv").read_text().splitlines()[0] == ",".join(RUN_COLUMNS)


def test_a_claim_speaks_of_the_suites_that_its_axis_chooses_the_missing_included(tmp_path: Path) -> None:
    whole = evidence(one_set(tmp_path / "a", more=BATCHES, claims=CLAIM, seeds=range(6)))
    [judged] = whole.claims
    assert (judged.verdict, judged.n_pairs, judged.population) == ("CONFIRMED", 6, (1, 2))
    assert judged.expectation.endswith("ratio > 1.00, for 1 of 2 suites: train.batch_size = 8")
    empty = evidence(one_set(tmp_path / "b", more=BATCHES, claims=CLAIM, change=lambda _run, _found: None))
    assert empty.claims[0].population == (1, 2)
    assert empty.claims[0].reasons[0] == "no block has both variants"


def test_rows_are_chosen_by_keys_with_and_without_a_column_of_their_own(tmp_path: Path) -> None:
    rows = evidence(one_set(tmp_path)).rows
    assert {row["nproc"] for row in select_rows(rows, {"train.nproc": 2})} == {2}
    chosen = select_rows(rows, {"train.nproc": [1, 2], "train.batch_size": 4, "failure": "in*"})
    assert {(row["nproc"], row["train.batch_size"]) for row in chosen} == {(1, 4), (2, 4)}
    assert format_where({"train.nproc": [1, 2], "failure": "in*"}) == "train.nproc = 1 or 2, failure = in*"


# -- several campaigns ----------------------------------------------------------------------------------------


def test_a_key_that_is_an_axis_of_one_campaign_may_be_a_setting_of_the_other(tmp_path: Path) -> None:
    a = load_campaign(one_set(tmp_path, "a", BATCHES))
    b = load_campaign(one_set(tmp_path, "b", '[axes]\n"train.nproc" = [2]\n'))  # with the batch size that is default
    assert differences([a, b]) == []
    found = pool([a, b])
    assert {key: sorted(values) for key, values in found.matrix.axes.items()} == {
        "train.batch_size": [4, 8, 128],
        "train.nproc": [2],
    }
    assert {run.row["train.batch_size"] for run in found.runs} == {4, 8, 128}
    assert len(found.suites) == 3
    assert build_evidence(found).factors["train.batch_size"] == (4, 8, 128)


def test_other_settings_must_still_agree(tmp_path: Path) -> None:
    a = load_campaign(one_set(tmp_path, "a", BATCHES))
    b = load_campaign(one_set(tmp_path, "b", f"{BATCHES}[checkpoint]\nkeep = 3\n"))
    with pytest.raises(EcrlError, match=r"checkpoint\.keep: a has 2, b has 3"):
        pool([a, b])


def test_one_name_for_two_recipes_is_a_difference(tmp_path: Path) -> None:
    variants = ("reference", "fast")
    a, b = (
        load_campaign(one_set(tmp_path, prefix, f'[variants.fast]\nengine = "{engine}"\n', variants=variants))
        for prefix, engine in (("a", "overlapped"), ("b", "blocking"))
    )
    with pytest.raises(EcrlError, match=r"variants\.fast\.engine: a has overlapped, b has blocking"):
        pool([a, b])


def test_claims_about_other_suites_are_other_claims(tmp_path: Path) -> None:
    a = load_campaign(one_set(tmp_path, "a", BATCHES, claims=CLAIM))
    b = load_campaign(one_set(tmp_path, "b", BATCHES, claims=CLAIM.replace("= 8", "= 4")))
    assert any(
        "train.batch_size = 8" in text and "train.batch_size = 4" in text and text.startswith("claims:")
        for text in differences([a, b])
    )


def test_suites_whose_settings_changed_are_paired_by_their_axes(tmp_path: Path) -> None:
    a = load_campaign(one_set(tmp_path, "a", BATCHES))
    b = load_campaign(one_set(tmp_path, "b", f"{BATCHES}[checkpoint]\nkeep = 3\n"))
    found = match_suites(a, b)
    assert {a.axes_texts[ours] for ours in found.values()} == {"train.batch_size=4", "train.batch_size=8"}
    assert all(b.axes_texts[theirs] == a.axes_texts[ours] for theirs, ours in found.items())
    assert compare_before_after(a, b, "wall_s")["blocking"].own.n_suites == 2


def test_costs_of_runs_that_differ_in_an_axis_are_never_averaged(tmp_path: Path) -> None:
    found = engine_costs(load_campaign(one_set(tmp_path, more=BATCHES)).runs)
    assert len(found) == 4
    names = {costs.workload.name for costs in found}
    assert names == {f"cifar10, cnn, 2 ranks, 4 in flight, train.batch_size={batch}" for batch in (4, 8)}
