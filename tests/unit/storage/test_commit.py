"""Checkpoint folders: every byte is covered, and no instant shows a committed folder with files missing."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ecrl.cli.app import app
from ecrl.storage import commit
from ecrl.storage.commit import FileFacts, Verdict, file_facts, step_folder


def write_checkpoint(root: Path, step: int, *, run: str = "run", world_size: int = 2) -> Path:
    folder = step_folder(root, step)
    folder.mkdir(parents=True)
    for rank in range(world_size):
        header = b'{"w":{"dtype":"U8","shape":[997],"data_offsets":[0,997]}}'
        payload = random.Random(step + rank).randbytes(997)
        (folder / f"shard-{rank}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + payload)
        (folder / f"rank-{rank}.json").write_text('{"leaves": {}}')
    files = {path.name: file_facts(path) for path in folder.iterdir()}
    commit.commit(folder, run=run, step=step, world_size=world_size, files=files)
    return folder


def test_a_committed_folder_verifies(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 400)
    assert commit.verify(tmp_path, 400, run="run", world_size=2) == Verdict(400, "valid")
    assert commit.list_committed_steps(tmp_path) == [400]


def test_a_folder_without_commit_file_is_partial_and_not_offered(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path, 400) / commit.COMMIT_FILE).unlink()
    assert commit.verify(tmp_path, 400).state == "partial"
    assert commit.list_committed_steps(tmp_path) == []
    assert commit.list_steps(tmp_path) == [400]


@pytest.mark.parametrize("name", ["shard-1.safetensors", "rank-0.json", commit.COMMIT_FILE])
def test_every_flipped_bit_is_noticed(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, 400) / name
    whole = path.read_bytes()
    rng = random.Random(name)
    for offset in {0, len(whole) - 1, *rng.sample(range(len(whole)), min(60, len(whole)))}:
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(damaged))
        assert commit.verify(tmp_path, 400).state == "corrupt", f"byte {offset} of {name}"


@pytest.mark.parametrize("name", ["shard-1.safetensors", "rank-0.json", commit.COMMIT_FILE])
def test_every_truncation_and_extension_is_noticed(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, 400) / name
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert commit.verify(tmp_path, 400).state == "corrupt", f"{name} cut at {size}"
    path.write_bytes(whole + b"\n")
    assert commit.verify(tmp_path, 400).state == "corrupt"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write_checkpoint(tmp_path, 400) / "shard-0.safetensors").unlink()
    assert commit.verify(tmp_path, 400) == Verdict(400, "corrupt", "shard-0.safetensors: missing")


def test_what_the_commit_does_not_name_is_told_and_condemns_nothing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, 400)
    (folder / "shard-7.safetensors").write_bytes(b"of nobody")
    assert commit.verify(tmp_path, 400) == Verdict(400, "valid")
    assert commit.find_orphan_files(tmp_path, 400) == ["shard-7.safetensors"]
    done = CliRunner().invoke(app, ["checkpoint", "verify", str(tmp_path)], catch_exceptions=False)
    assert done.stdout.split()[:3] == ["step", "400", "valid"]
    assert done.stdout.endswith(": shard-7.safetensors\n")


WHOLE = {f"{name}": {"bytes": 1, "xxh3_128": "0"} for name in ("shard-0.safetensors", "rank-0.json")}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"files": []}, "lists its files without their sizes and digests"),
        ({"files": {"rank-0.json": []}}, "lists its files without their sizes and digests"),
        ({"files": WHOLE | {"rank-0.json": {"bytes": 1}}}, "lists its files without their sizes and digests"),
        ({"files": {}}, "names no file, expected a shard and a rank file of each of 1 ranks"),
        ({"world_size": 2}, "names rank-0.json, shard-0.safetensors, expected a shard and a rank file of each of 2"),
        ({"files": WHOLE | {"../../other": WHOLE["rank-0.json"]}}, "names ../../other, rank-0.json"),
        ({"world_size": 10**12}, "expected a shard and a rank file of each of 1000000000000 ranks"),
        ({"world_size": "1"}, "found world size '1', expected a number of ranks"),
        ({"world_size": 0, "files": {}}, "found world size 0, expected a number of ranks"),
    ],
)
def test_a_commit_file_that_matches_its_digest_and_cannot_be_true_is_corrupt(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    folder = write_checkpoint(tmp_path, 400, world_size=1)
    content = json.loads((folder / commit.COMMIT_FILE).read_text()) | change
    del content["digest"]
    text = json.dumps(content | {"digest": commit._digest(content)}, indent=1)
    (folder / commit.COMMIT_FILE).write_text(text)
    verdict = commit.verify(tmp_path, 400)
    assert verdict.state == "corrupt"
    assert str(verdict.reason).startswith(f"{commit.COMMIT_FILE}: ")
    assert said in str(verdict.reason)


@pytest.mark.parametrize("left", ["nothing", "files", "another"])
def test_what_is_removed_or_replaced_while_it_is_read_is_not_called_corrupt(
    tmp_path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = write_checkpoint(tmp_path, 400), commit.file_facts

    def removing(path: Path) -> FileFacts:
        if path.name == "rank-1.json":
            (folder / commit.COMMIT_FILE).unlink()
            (folder / "rank-1.json").unlink()
            if left != "files":
                shutil.rmtree(folder)
            if left == "another":
                monkeypatch.undo()
                write_checkpoint(tmp_path, 400, run="another")
                (folder / "rank-1.json").unlink()
        return whole(path)

    monkeypatch.setattr(commit, "file_facts", removing)
    assert commit.verify(tmp_path, 400).state == "removed"


def test_a_folder_removed_before_anything_of_it_is_read_is_removed_and_has_no_strays(tmp_path: Path) -> None:
    assert commit.verify(tmp_path, 400).state == "removed"
    assert commit.find_orphan_files(tmp_path, 400) == []


def test_another_run_or_world_size_is_refused_with_what_differs(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 400, run="theirs", world_size=2)
    assert "found theirs, expected ours" in str(commit.verify(tmp_path, 400, run="ours").reason)
    assert "found 2, expected 3" in str(commit.verify(tmp_path, 400, world_size=3).reason)


def test_a_folder_renamed_to_another_step_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 400).rename(step_folder(tmp_path, 450))
    assert "found 400, expected 450" in str(commit.verify(tmp_path, 450).reason)


def test_removal_takes_the_commit_file_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path, 400)
    seen: list[set[str]] = []

    def interrupted(path: Path) -> None:
        seen.append({p.name for p in path.iterdir()})
        raise KeyboardInterrupt

    monkeypatch.setattr("ecrl.storage.commit.shutil.rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        commit.remove(tmp_path, 400)
    assert seen == [{p.name for p in folder.iterdir()}]
    assert commit.list_committed_steps(tmp_path) == []


def test_folders_of_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "rejected-00000400-attempt1").mkdir()
    (tmp_path / "step-4").mkdir()
    assert commit.list_steps(tmp_path) == []
    assert commit.list_steps(tmp_path / "absent") == []


def test_facts_are_those_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert file_facts(tmp_path / "a") == FileFacts(0, "99aa06d3014798d86001c324468d497f")
