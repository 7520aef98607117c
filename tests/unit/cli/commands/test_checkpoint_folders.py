"""`ecrl checkpoint ls|verify` on the folder of a run, a suite, a campaign, and on folders without checkpoints."""

import json
from pathlib import Path

import pytest

from ecrl.storage.commit import ShardNames, commit, file_facts, step_folder
from tests.errors import has_error
from tests.unit.cli.inline import run_inline


def _save(checkpoints: Path, step: int) -> None:
    folder = step_folder(checkpoints, step)
    folder.mkdir(parents=True)
    names = ShardNames(0)
    for name in (names.tensors, names.facts):
        (folder / name).write_bytes((2).to_bytes(8, "little") + b"{}")  # the header of a safetensors file
    files = {name: file_facts(folder / name) for name in (names.tensors, names.facts)}
    commit(folder, run="r", step=step, world_size=1, files=files)


@pytest.fixture
def campaign(tmp_path: Path) -> Path:
    """Two runs with checkpoints and one without."""
    for variant, seed in (("blocking", 1), ("blocking", 2)):
        for step in (10, 20):
            _save(tmp_path / "mine" / "suites" / "s" / variant / f"seed{seed}" / "checkpoints", step)
    (tmp_path / "mine" / "suites" / "s" / "reference" / "seed1" / "checkpoints").mkdir(parents=True)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("below", "runs"),
    [("", 2), ("suites", 2), ("suites/s", 2), ("suites/s/blocking", 2), ("suites/s/blocking/seed1", 1)],
)
def test_every_folder_above_checkpoints_stands_for_all_of_them(campaign: Path, below: str, runs: int) -> None:
    listed = run_inline("checkpoint", "ls", str(campaign / below))
    assert listed.returncode == 0
    assert listed.stdout.count("==> ") == runs
    assert listed.stdout.count("committed") == 2 * runs
    assert run_inline("checkpoint", "verify", str(campaign / below)).returncode == 0
    told = json.loads(run_inline("checkpoint", "verify", str(campaign / below), "--json").stdout)
    assert [run["newest_valid_step"] for run in told["runs"]] == [20] * runs
    assert told["newest_valid_step"] == (20 if runs == 1 else None)
    assert len({row["folder"] for row in told["checkpoints"]}) == runs


def test_one_run_without_a_valid_checkpoint_is_a_failure_of_the_whole(campaign: Path) -> None:
    for step in (10, 20):
        root = campaign / "suites" / "s" / "blocking" / "seed2" / "checkpoints"
        (step_folder(root, step) / "shard-0.safetensors").write_bytes(b"other")
    done = run_inline("checkpoint", "verify", str(campaign))
    assert done.returncode == 4
    assert done.stdout.count("corrupt") == 2
    assert done.stderr.strip().endswith("1 of 2")


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_a_folder_without_checkpoints_is_told(tmp_path: Path, command: str) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        done = run_inline("checkpoint", command, str(folder))
        assert (done.returncode, done.stdout) == (2, "")
        assert has_error(done.stderr, "ECRL-107", str(folder), "results/PREFIX")


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_a_run_that_has_none_yet_is_told_and_exits_4(campaign: Path, command: str) -> None:
    folder = campaign / "suites" / "s" / "reference" / "seed1"
    done = run_inline("checkpoint", command, str(folder))
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr
