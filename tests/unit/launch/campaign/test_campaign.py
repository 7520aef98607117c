"""Freezing a matrix, finding it again, and refusing another one."""

import dataclasses
from pathlib import Path

import pytest

from ecrl.config.load import Override
from ecrl.launch.campaign.recover import reconcile_rows
from ecrl.launch.campaign.request import Request, resolve_request
from ecrl.launch.campaign.store import freeze, load_frozen
from ecrl.launch.system.disk_errors import explain_storage_errors
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, request

CLAIM = '[[claims]]\nname = "c"\ncompare = ["overlapped", "blocking"]\nexpect = "ratio > 1"\n'


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    return request(tmp_path / "results", text=MATRIX + CLAIM)


def frozen(asked: Request) -> Request:
    freeze(resolve_request(asked).campaign.copy_with_device("cpu"))
    return asked


def test_what_was_frozen_is_what_is_found(asked: Request) -> None:
    before = resolve_request(asked).campaign.copy_with_device("cpu")
    freeze(before)
    after = load_frozen(asked.paths)
    assert after.matrix == before.matrix
    assert after.experiment_hash == before.experiment_hash
    assert after.orders == before.orders


def test_a_blocks_order_is_known_without_looking_at_every_suite(asked: Request) -> None:
    axes = [
        Override(("matrix", "seeds"), [5, 1, 9], "--seeds"),
        Override(("matrix", "launchers"), ["warm", "cold"], "x"),
    ]
    campaign = resolve_request(dataclasses.replace(asked, overrides=tuple(axes))).campaign
    blocks = {(suite.suite_id, seed): campaign.order(suite, seed) for suite in campaign.suites for seed in suite.seeds}
    assert blocks == campaign.orders
    last = campaign.suites[len(campaign.suites) - 1]  # asked for first, by somebody else
    again = resolve_request(dataclasses.replace(asked, overrides=tuple(axes))).campaign
    assert again.order(last, 9) == campaign.order(last, 9)


def test_variants_narrowed_by_a_flag_stay_readable_beside_claims_about_others(asked: Request) -> None:
    override = Override(("matrix", "variants"), ["reference", "blocking"], "--variants")
    frozen(dataclasses.replace(asked, overrides=(override,)))
    assert load_frozen(asked.paths).matrix.matrix.variants == ["reference", "blocking"]


def test_the_same_matrix_is_the_same_campaign_and_auto_is_what_was_decided(asked: Request) -> None:
    assert resolve_request(frozen(asked)).campaign.matrix.run.device == "cpu"


def test_another_experiment_is_refused_with_the_difference_and_a_free_prefix(asked: Request) -> None:
    frozen(asked)
    other = dataclasses.replace(asked, overrides=(Override(("train", "steps"), 8, "x"),))
    with raises("ECRL-303", "train.steps: 6 -> 8", "--prefix exp-2"):
        resolve_request(other)
    (asked.paths.results / "exp-2").mkdir()
    with raises("ECRL-303", "--prefix exp-3"):
        resolve_request(other)


def test_other_run_options_are_the_same_experiment(asked: Request) -> None:
    frozen(asked)
    again = dataclasses.replace(asked, source=None, overrides=(Override(("run", "retries"), 2, "--retries"),))
    assert resolve_request(again).campaign.matrix.run.retries == 2


def test_an_edited_frozen_matrix_is_refused(asked: Request) -> None:
    frozen(asked)
    asked.paths.matrix.write_text(asked.paths.matrix.read_text().replace("steps = 6", "steps = 7"))
    with raises("ECRL-307", "exp_matrix.toml: ", "--prefix exp-2"):
        load_frozen(asked.paths)


def test_no_matrix_and_nothing_frozen_lists_what_there_is(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "matrices").mkdir()
    (tmp_path / "matrices" / "demo.toml").touch()
    monkeypatch.chdir(tmp_path)
    with raises("ECRL-306", "MATRIX.toml: ", f"ecrl matrix run {asked.paths.options} matrices/demo.toml"):
        resolve_request(dataclasses.replace(asked, source=None))


def test_a_profile_other_than_the_frozen_one_needs_another_prefix(asked: Request) -> None:
    frozen(asked)
    with raises("ECRL-305", "--profile: ", "'small'", "--prefix exp-2"):
        resolve_request(dataclasses.replace(asked, source=None, profile="small"))


def test_an_unknown_prefix_names_the_nearest(asked: Request) -> None:
    frozen(asked)
    with raises("ECRL-301", "'exq'", "'exp'"):
        load_frozen(CampaignPaths(asked.paths.results, "exq"))


def test_a_relative_data_root_means_the_folder_seen_when_it_was_frozen(
    asked: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    override = Override(("run", "data_root"), "data", "--data-root")
    assert resolve_request(dataclasses.replace(asked, overrides=(override,))).campaign.matrix.run.data_root == str(
        tmp_path / "data"
    )


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("dataset", "mnist", "'noise'"),
        ("steps", 7, "'6'"),
        ("suite_id", "noise-cnn-early-k2-q4-00000000", "'noise-cnn-early-k2-q4-"),
        ("runs_done", 4, "3"),
    ],
)
def test_a_row_that_contradicts_the_matrix_is_named(asked: Request, column: str, value: object, expected: str) -> None:
    campaign = resolve_request(asked).campaign
    rows: dict[str, Row] = {row.suite_id: row for row in campaign.rows()}
    first = next(iter(rows))
    rows[first] = dataclasses.replace(rows[first], **{column: value})  # type: ignore[arg-type]
    with raises("ECRL-401", f"row 1, column {column}: ", f"'{value}'", expected):
        reconcile_rows(campaign, rows, asked.paths.manifest)


def test_a_results_folder_that_is_a_file_is_an_error_with_the_next_command(tmp_path: Path) -> None:
    paths = CampaignPaths(tmp_path / "results", "exp")
    (tmp_path / "results").write_text("not a folder")
    with (
        raises("ECRL-504", str(paths.results), "same command"),
        explain_storage_errors(paths),
    ):
        paths.root.mkdir(parents=True, exist_ok=True)


def test_errors_that_are_not_the_disks_stay_bugs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_storage_errors(CampaignPaths(tmp_path, "exp")):
        (tmp_path / "nothing").read_text()
