"""Names in the results folder."""

import re
from pathlib import Path

import pytest

from ecrl.records.paths import CampaignPaths, RunPaths, all_prefixes
from tests.errors import raises


@pytest.mark.parametrize("prefix", ["a/b", "../up", "", ".hidden", "with space", "x" * 101, "-flag"])
def test_a_prefix_that_is_no_folder_name_is_refused_with_one_that_is(prefix: str) -> None:
    with raises("ECRL-302", "--prefix: ", repr(prefix), "results/") as raised:
        CampaignPaths(Path("results"), prefix)
    assert re.search(r"--prefix [A-Za-z0-9]", str(raised.value))


def test_every_file_of_a_campaign_has_its_place() -> None:
    paths = CampaignPaths(Path("results"), "exp4")
    assert str(paths.matrix) == "results/exp4/exp4_matrix.toml"
    assert str(paths.manifest) == "results/exp4/exp4_manifest.csv"
    assert str(paths.journal) == "results/exp4/exp4_manifest.journal"
    assert str(paths.table("runs.csv")) == "results/exp4/exp4_runs.csv"
    assert str(paths.run("s", "blocking", 7).result) == "results/exp4/suites/s/blocking/seed7/result.json"


def test_events_files_are_found_by_attempt_and_rank_in_order(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for attempt, rank in [(10, 0), (2, 1), (2, 0)]:
        paths.events(attempt, rank).touch()
    paths.launcher_events.touch()
    assert list(paths.all_events()) == [(2, 0), (2, 1), (10, 0)]


def test_a_prefix_is_a_folder_with_a_frozen_matrix_of_its_name(tmp_path: Path) -> None:
    for name in ("b", "a", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "a_matrix.toml").touch()
    (tmp_path / "b" / "b_matrix.toml").touch()
    (tmp_path / "README.md").touch()
    assert all_prefixes(tmp_path) == ["a", "b"]
    assert all_prefixes(tmp_path / "absent") == []


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("suites/s/blocking/seed1/checkpoints/step-1/shard-0.safetensors", "checkpoints"),
        ("suites/s/blocking/seed1.aside-1/logs/torchrun.log", "logs"),
        ("warmups/1/checkpoints/step-1/COMMIT.json", "checkpoints"),
        ("suites/s/checkpoints/seed1/result.json", ""),  # a variant of this name
        ("suites/logs/blocking/seed1/run.json", ""),
        ("exp_manifest.csv", ""),
        ("checkpoints", ""),
    ],
)
def test_a_runs_folder_is_known_by_its_place(name: str, folder: str) -> None:
    paths = CampaignPaths(Path("results"), "exp")
    assert paths.name_run_folder(paths.root / name) == folder
