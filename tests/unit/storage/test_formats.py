"""Checkpoints of other engines are told from ecrl's own unfinished ones, from their files alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecrl.storage import commit, formats
from ecrl.storage.commit import step_folder


def written(root: Path, *names: str) -> Path:
    folder = step_folder(root, 10)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("engine", "names"),
    [
        ("dcp", ["__0_0.distcp", "__1_0.distcp", ".metadata"]),
        ("torchsnapshot", ["batched/9f4c", ".snapshot_metadata"]),
        ("torch-save", ["state.pt", "rank-0.pt", "rank-1.pt"]),
        ("torch-checkpointing", ["state.pt", "own_0.pt", "meta_0.json"]),
    ],
)
def test_a_complete_checkpoint_of_another_engine_cannot_be_verified(
    tmp_path: Path, engine: str, names: list[str]
) -> None:
    written(tmp_path, *names)
    verdict = commit.verify(tmp_path, 10)
    assert verdict.state == "unverifiable"
    assert f" {engine}, " in str(verdict.reason)
    assert commit.list_committed_steps(tmp_path) == []


@pytest.mark.parametrize(
    ("engine", "name", "missing"),
    [("dcp", "__0_0.distcp", ".metadata"), ("torchsnapshot", "batched/9f4c", ".snapshot_metadata")],
)
def test_one_that_its_engine_did_not_end_is_partial(tmp_path: Path, engine: str, name: str, missing: str) -> None:
    written(tmp_path, name)
    verdict = commit.verify(tmp_path, 10)
    assert (verdict.step, verdict.state) == (10, "partial")
    assert f" {engine}, " in str(verdict.reason)
    assert str(verdict.reason).endswith(f": no {missing}")


def test_a_commit_file_makes_it_ours_whatever_else_lies_there(tmp_path: Path) -> None:
    folder = written(tmp_path, ".metadata", "shard-0.safetensors")
    (folder / commit.COMMIT_FILE).write_text("{}")
    assert commit.verify(tmp_path, 10).state == "corrupt"


def test_one_removed_while_it_is_looked_at_was_begun_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = written(tmp_path, "__0_0.distcp")
    whole = Path.glob

    def removing(path: Path, pattern: str) -> Iterator[Path]:
        shutil.rmtree(path, ignore_errors=True)
        monkeypatch.setattr(Path, "is_dir", lambda _: True)  # as if it had still been there when that was asked
        return whole(path, pattern)

    monkeypatch.setattr(Path, "glob", removing)
    assert formats.find_partial_format(folder) is None


def test_ours_without_a_commit_file_is_nobody_elses(tmp_path: Path) -> None:
    folder = written(tmp_path, "shard-0.safetensors", "rank-0.json")
    assert formats.find_complete_format(folder) is None
    assert formats.find_partial_format(folder) is None
