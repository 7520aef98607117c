"""A place that refuses a checkpoint passes it to the next one: on all ranks alike, recorded, restored and retained."""

import contextlib
import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecrl.checkpoint.sharded import persist
from ecrl.storage import atomic, commit
from tests.unit.checkpoint.ranks_in_threads import Group

ENGINES = ["blocking", "overlapped"]


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("checkpoints", "second"):
        (tmp_path / name).mkdir()
    return tmp_path / "checkpoints", tmp_path / "second"


def train(folder: Path, engine: str, fallback: Path, steps: int = 20, **context: Any) -> Group:
    group = Group(folder, engine, fallbacks=(fallback,), **context)
    group.train(1, steps)
    group.each(lambda rank: group.engines[rank].drain())
    return group


def refuse(number: int, hits: Callable[[Path], bool]) -> Callable[..., int]:
    whole = os.open

    def opened(path: Any, flags: int, mode: int = 0o777, **where: Any) -> int:
        if flags & os.O_CREAT and hits(Path(path)):
            raise OSError(number, os.strerror(number), str(path))
        return whole(path, flags, mode, **where)

    return opened


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_one_rank_is_refused_all_ranks_write_elsewhere(
    tmp_path: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    first, second = places

    def hits(path: Path) -> bool:
        return path.is_relative_to(first) and "step-00000020" in str(path) and path.name == "shard-1.safetensors"

    monkeypatch.setattr(os, "open", refuse(number, hits))
    group = train(tmp_path, "blocking", second, steps=20, keep=2)
    for rank in range(2):
        (event,) = group.events(rank, "rerouted")
        assert (event["s"], event["to"]) == (20, str(second))
        assert event["reason"].startswith(f"rank 1: {os.strerror(number)}")
        assert group.events(rank, "persist_failed") == []
    assert [e.get("place") for e in group.events(0, "committed")] == [None, str(second)]
    assert commit.list_steps(first) == []  # the run is complete, and its newest is elsewhere
    assert commit.verify(second, 20, run="run", world_size=2).state == "valid"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_newest_of_all_places_is_restored_and_as_many_are_kept_as_in_one(
    tmp_path: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    first, second = places

    def hits(path: Path) -> bool:
        return path.is_relative_to(first) and "step-00000020" in str(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.ENOSPC, hits))
        group = Group(tmp_path, engine, fallbacks=(second,))
        group.train(1, 30)
        group.settle()
    assert (commit.list_committed_steps(first), commit.list_committed_steps(second)) == ([30], [20])
    shutil.rmtree(commit.step_folder(first, 30))
    again = Group(tmp_path, engine, attempt=1, fallbacks=(second,))
    assert [r.step for r in again.each(lambda rank: again.engines[rank].restore())] == [20, 20]
    again.train(21, 40)
    again.each(lambda rank: again.engines[rank].drain())
    assert (commit.list_steps(first), commit.list_steps(second)) == ([40], [])
    assert [e["s"] for e in again.events(0, "removed")] == [20, 30]


def test_a_rejected_newer_checkpoint_in_one_place_gives_way_to_an_older_one_in_another(
    tmp_path: Path, places: tuple[Path, Path]
) -> None:
    first, second = places
    group = Group(tmp_path, "blocking")
    group.train(1, 20)
    group.settle()
    commit.step_folder(first, 20).rename(commit.step_folder(second, 20))
    (commit.step_folder(second, 20) / "shard-0.safetensors").write_bytes(b"")
    again = Group(tmp_path, "blocking", attempt=1, fallbacks=(second,))
    restored = again.each(lambda rank: again.engines[rank].restore())
    assert [r.step for r in restored] == [10, 10]
    assert restored[0].passed_over[0]["step"] == 20
    assert [path.name for path in second.iterdir()] == ["rejected-00000020-attempt1"]
    again.settle()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_that_every_place_refuses_is_lost_and_training_goes_on(
    tmp_path: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse(errno.EROFS, lambda path: "step-00000010" in str(path)))
        group = train(tmp_path, engine, places[1])
    for rank in range(2):
        assert [e["s"] for e in group.events(rank, "rerouted")] == [10]
        assert [e["s"] for e in group.events(rank, "persist_failed")] == [10]
    assert [commit.list_steps(place) for place in places] == [[20], []]


def test_a_commit_that_is_refused_is_made_elsewhere(
    tmp_path: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = places
    monkeypatch.setattr(
        os, "open", refuse(errno.ENOSPC, lambda path: path.parent.parent == first and "COMMIT" in path.name)
    )
    train(tmp_path, "overlapped", second, steps=10)
    assert [commit.list_steps(place) for place in places] == [[], [10]]


def test_want_of_memory_is_no_refusal_of_a_disk(
    tmp_path: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(_fd: int, _data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(persist, "write_all", exhausted)
    group = train(tmp_path, "blocking", places[1], steps=10)
    assert [group.events(0, "rerouted"), [e["s"] for e in group.events(0, "persist_failed")]] == [[], [10]]
    assert atomic.write_all is not exhausted


def test_a_place_that_is_gone_is_passed_over_and_not_made_again(tmp_path: Path, places: tuple[Path, Path]) -> None:
    first, second = places
    first.rmdir()
    group = train(tmp_path, "blocking", second, steps=10)
    assert not first.exists(), "below a mount point, it would be on another disk"
    assert commit.list_steps(second) == [10]
    assert [e["s"] for e in group.events(1, "rerouted")] == [10]
    again = Group(tmp_path, "blocking", attempt=1, fallbacks=(second,))
    assert again.engines[0].context.root == first
    assert [r.step for r in again.each(lambda rank: again.engines[rank].restore())] == [10, 10]
    again.settle()


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no mounts here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_disk_that_is_really_full_or_read_only_is_passed_over(
    tmp_path: Path, places: tuple[Path, Path], engine: str
) -> None:
    first, second = places
    with mounted(first, "size=16k"):
        group = train(tmp_path, engine, second)
        assert {e["reason"].split(" (")[0] for e in group.events(0, "rerouted")} <= {
            f"rank {rank}: No space left on device" for rank in range(2)
        }
        assert [e["s"] for e in group.events(0, "rerouted")] == [10, 20]
        assert [commit.list_steps(place) for place in places] == [[], [20]]
    (tmp_path / "ro").mkdir()
    with mounted(first, "ro"):
        group = train(tmp_path / "ro", engine, second, root=first)
        assert "Read-only file system" in group.events(0, "rerouted")[0]["reason"]


@pytest.mark.parametrize("engine", ["blocking", "dcp"])
def test_a_place_whose_disk_is_gone_is_not_made_on_another_disk(tmp_path: Path, engine: str) -> None:
    place = tmp_path / "disk" / "exp" / "seed1"  # what lies below a mount point goes with its disk
    with pytest.raises(FileNotFoundError, match="seed1"):
        Group(tmp_path, engine, attempt=1, root=place)
    assert not (tmp_path / "disk").exists()
