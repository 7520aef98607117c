"""Checkpoints that must not be restored: each is told by `ecrl checkpoint verify`, and refused by a real restore,
which falls back to the older one on every rank."""

import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore
from typer.testing import CliRunner

from ecrl import plugins
from ecrl.checkpoint.state_view import ForeignCheckpointError
from ecrl.cli.app import app
from ecrl.storage import commit
from ecrl.storage.commit import COMMIT_FILE, file_facts, step_folder
from tests.extras import list_cases, need
from tests.unit.checkpoint.ranks_in_threads import SEVERAL_IN_THREADS, Group, ToyState

OURS = ["blocking", "overlapped"]


def verified(root: Path) -> tuple[int, dict[str, Any]]:
    """Exit code and document of `ecrl checkpoint verify --json`."""
    done = CliRunner().invoke(app, ["checkpoint", "verify", str(root), "--json"])
    return done.exit_code, json.loads(done.stdout)


def two_checkpoints(folder: Path, **context: Any) -> Path:
    """A run of two ranks with checkpoints 10 and 20; returns the folder of the newer one."""
    group = Group(folder, "blocking", **context)
    group.train(1, 20)
    group.settle()
    return step_folder(folder / "checkpoints", 20)


def again_committed(folder: Path) -> None:
    """Commit a folder anew as its files are now: every digest is right."""
    names = [p for p in folder.iterdir() if p.name != COMMIT_FILE]
    commit.commit(folder, run="run", step=20, world_size=2, files={p.name: file_facts(p) for p in names})


def missing_shard(folder: Path, _: pytest.MonkeyPatch) -> str:
    (folder / "shard-1.safetensors").unlink()
    return "shard-1.safetensors: missing"


def unreadable_shard(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """The disk fails under it: permissions would not keep root out."""
    whole = Path.open

    def failing(path: Path, *arguments: Any, **how: Any) -> Any:
        if path == folder / "shard-0.safetensors":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return whole(path, *arguments, **how)

    patch.setattr(Path, "open", failing)
    return "shard-0.safetensors: unreadable (Input/output error)"


def commit_of_another_size(folder: Path, _: pytest.MonkeyPatch) -> str:
    size = (folder / "shard-1.safetensors").stat().st_size
    files = {p.name: file_facts(p) for p in folder.iterdir() if p.name != COMMIT_FILE}
    files["shard-1.safetensors"] = commit.FileFacts(size + 8, files["shard-1.safetensors"].xxh3_128)
    commit.commit(folder, run="run", step=20, world_size=2, files=files)
    return f"shard-1.safetensors: {size} bytes, committed with {size + 8}"


def header_of_a_lie(folder: Path, _: pytest.MonkeyPatch) -> str:
    """Every digest is right, and the header asks for an exabyte."""
    shard = folder / "shard-1.safetensors"
    shard.write_bytes((2**60).to_bytes(8, "little") + shard.read_bytes()[8:])
    again_committed(folder)
    return f"shard-1.safetensors: its header claims {2**60} bytes"


def tensor_of_a_lie(folder: Path, _: pytest.MonkeyPatch) -> str:
    """Every digest is right, and a tensor claims an exabyte."""
    shard = folder / "shard-0.safetensors"
    data = shard.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    last = max(header, key=lambda name: header[name]["data_offsets"])
    header[last]["data_offsets"][1] = 2**60
    text = json.dumps(header).encode()
    shard.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    again_committed(folder)
    return f"shard-0.safetensors: its header gives {last!r} the bytes"


DAMAGES = [missing_shard, unreadable_shard, commit_of_another_size, header_of_a_lie, tensor_of_a_lie]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("engine", OURS)
def test_a_damaged_checkpoint_is_told_and_passed_over(
    tmp_path: Path,
    engine: str,
    damage: Callable[[Path, pytest.MonkeyPatch], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = two_checkpoints(tmp_path)
    said = damage(folder, monkeypatch)

    code, document = verified(folder.parent)
    assert (code, document["newest_valid_step"]) == (0, 10)
    assert document["checkpoints"][1]["state"] == "corrupt"
    assert document["checkpoints"][1]["reason"].startswith(said)

    second = Group(tmp_path, engine, attempt=1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [10, 10]
    assert all(r.passed_over[0]["step"] == 20 for r in restored)
    assert restored[0].passed_over[0]["reason"].startswith(said)
    second.settle()


@pytest.mark.parametrize("engine", OURS)
@pytest.mark.parametrize(
    ("context", "facts"),
    [
        ({"run_hash": "theirs"}, "found theirs, expected run"),
        ({"world_size": 1}, "world size: found 1, expected 2"),
        ({"world_size": 3}, "world size: found 3, expected 2"),
    ],
    ids=["run", "fewer-ranks", "more-ranks"],
)
def test_checkpoints_of_another_run_or_world_size_are_refused_with_what_differs(
    tmp_path: Path, engine: str, context: dict[str, Any], facts: str
) -> None:
    two_checkpoints(tmp_path, **context)
    (tmp_path / "run.json").write_text(json.dumps({"run_hash": "run", "train": {"nproc": 2}}))

    code, document = verified(tmp_path / "checkpoints")
    assert (code, document["newest_valid_step"]) == (4, None)
    assert [c["state"] for c in document["checkpoints"]] == ["mismatched"] * 2
    assert all(c["reason"].endswith(facts) for c in document["checkpoints"])

    second = Group(tmp_path, engine, world_size=2, attempt=1)
    with pytest.raises(ForeignCheckpointError, match=facts):
        second.each(lambda rank: second.engines[rank].restore())
    assert float(second.states[0].weights["model/wide"].max()) == 0.0
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [10, 20]  # whose they are, they stay


# --- a disk that is full in the middle of a checkpoint ----------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def process_group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.timeout(240)
# what torchsnapshot leaves open when a write fails while it still copies
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("process_group_of_one")
@pytest.mark.parametrize("engine", list_cases(plugins.names("engine")))
def test_a_full_disk_costs_the_checkpoint_that_met_it_and_no_other(tmp_path: Path, disk: Path, engine: str) -> None:
    need(engine)
    (tmp_path / "checkpoints").symlink_to(disk)
    world_size = 2 if engine in SEVERAL_IN_THREADS else 1

    def attempt(number: int, restored: int, last: int) -> Group:
        group = Group(tmp_path, engine, world_size, number, lambda rank: ToyState(rank, 500_000 // 4))
        assert {r.step for r in group.each(lambda rank: group.engines[rank].restore())} == {restored}
        group.train(restored + 1, last)
        group.settle()
        return group

    attempt(0, restored=0, last=10)
    with (disk / "filler").open("wb") as filler:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        filler.write(bytes(free - 200_000))
    full = attempt(1, restored=10, last=20)
    for rank in range(world_size):
        failures = full.events(rank, "persist_failed")
        assert [e["s"] for e in failures] == [20]
        # torch.save says no more than the former, and DCP passes it on without what was behind it
        assert any(said in failures[0]["reason"] for said in ("unexpected pos", "No space left on device"))
    assert not full.events(0, "committed")
    (disk / "filler").unlink()
    freed = attempt(2, restored=10, last=30)
    assert [e["s"] for e in freed.events(0, "committed")] == [20, 30]
