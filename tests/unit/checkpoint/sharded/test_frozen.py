"""Tensors that nothing changes are written once, and are part of every checkpoint for as long as it exists."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from ecrl.checkpoint.state_view import Shard, StateView
from ecrl.storage import commit
from tests.unit.checkpoint.ranks_in_threads import Group, ToyState

RANKS = 3
FROZEN = {"model/base", "model/other_base", "model/split_base"}
ENGINES = ["blocking", "overlapped"]


class PartlyFrozen(ToyState):
    """value: of every frozen element; a restore must bring it back."""

    def __init__(self, rank: int, value: float = 7.0) -> None:
        super().__init__(rank)
        self.base = {"model/base": torch.full((500,), value), "model/other_base": torch.full((3, 40), value)}
        self.rows = torch.full((10, 4), value)
        self.split_base = Shard(self.rows, (10 * RANKS, 4), 10 * rank)

    def view(self, step: int) -> StateView:
        view = super().view(step)
        return replace(
            view,
            replicated=view.replicated | self.base,
            shards=view.shards | {"model/split_base": self.split_base},
            frozen=frozenset(FROZEN),
        )


def forgotten(rank: int) -> PartlyFrozen:
    return PartlyFrozen(rank, value=0.0)


def group(folder: Path, engine: str = "blocking", **more: Any) -> Group:
    return Group(folder, engine, RANKS, state=more.pop("state", PartlyFrozen), keep=3, **more)


def frozen_files(folder: Path, step: int) -> list[Path]:
    found = sorted(commit.step_folder(folder / "checkpoints", step).glob("frozen-*"))
    assert [path.name for path in found] == [f"frozen-{rank}.safetensors" for rank in range(RANKS)]
    return found


def inodes(folder: Path, step: int) -> list[int]:
    return [path.stat().st_ino for path in frozen_files(folder, step)]


def list_names(path: Path) -> set[str]:
    with safe_open(str(path), framework="pt") as file:
        return set(file.keys())


def verify(folder: Path, step: int) -> commit.Verdict:
    return commit.verify(folder / "checkpoints", step, run="run", world_size=RANKS)


@pytest.mark.parametrize("engine", ENGINES)
def test_they_are_written_once_and_stand_in_no_other_file(tmp_path: Path, engine: str) -> None:
    made = group(tmp_path, engine)
    made.train(1, 30)
    made.settle()
    steps = commit.list_committed_steps(tmp_path / "checkpoints")
    assert len(steps) == 3
    assert len({tuple(inodes(tmp_path, step)) for step in steps}) == 1
    assert {verify(tmp_path, step).state for step in steps} == {"valid"}
    every = frozen_files(tmp_path, 30)
    assert set().union(*map(list_names, every)) == FROZEN
    assert sum("model/base" in list_names(path) for path in every) == 1  # ranks share what all of them hold
    shards = commit.step_folder(tmp_path / "checkpoints", 30).glob("shard-*")
    assert not any(list_names(path) & FROZEN for path in shards)
    assert all(event["bytes"] < 30_000 for rank in range(RANKS) for event in made.events(rank, "persisted"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restore_brings_them_back_and_the_next_attempt_does_not_write_them_again(tmp_path: Path, engine: str) -> None:
    first = group(tmp_path, engine)
    first.train(1, 15)
    first.settle()
    before = inodes(tmp_path, 10)
    second = group(tmp_path, engine, state=forgotten, attempt=1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [one.step for one in restored] == [10] * RANKS
    assert all(one.digest_live == one.digest_recorded for one in restored)
    for state in second.states:
        assert isinstance(state, PartlyFrozen)
        assert all(torch.equal(t, torch.full_like(t, 7.0)) for t in (*state.base.values(), state.rows))
    second.train(11, 20)
    second.settle()
    assert inodes(tmp_path, 20) == before
    assert verify(tmp_path, 20).state == "valid"


def test_a_checkpoint_keeps_them_when_everything_else_of_them_is_gone(tmp_path: Path) -> None:
    made = group(tmp_path)
    made.train(1, 20)
    root = tmp_path / "checkpoints"
    commit.remove(root, 10)
    for path in (root / "frozen").iterdir():
        path.unlink()
    assert verify(tmp_path, 20).state == "valid"
    again = group(tmp_path, state=forgotten, attempt=1)
    again.each(lambda rank: again.engines[rank].restore())
    before = inodes(tmp_path, 20)
    again.train(21, 30)
    assert inodes(tmp_path, 30) == before


def test_what_an_attempt_without_a_checkpoint_left_is_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "frozen"
    folder.mkdir(parents=True)
    for name in ("frozen-0.safetensors", "frozen-0.partial"):
        (folder / name).write_bytes(b"torn")
    made = group(tmp_path)
    made.each(lambda rank: made.engines[rank].restore())
    made.train(1, 10)
    assert verify(tmp_path, 10).state == "valid"


def test_a_flipped_byte_is_found_and_nothing_is_restored_from_it(tmp_path: Path) -> None:
    made = group(tmp_path)
    made.train(1, 10)
    path = frozen_files(tmp_path, 10)[1]
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    verdict = verify(tmp_path, 10)
    assert (verdict.state, verdict.reason) == ("corrupt", "frozen-1.safetensors: digest differs from the committed one")
    again = group(tmp_path, attempt=1)
    assert {one.step for one in again.each(lambda rank: again.engines[rank].restore())} == {0}


@pytest.mark.parametrize("step", [10, 20])
def test_a_missing_file_of_them_is_found(tmp_path: Path, step: int) -> None:
    made = group(tmp_path)
    made.train(1, 20)
    frozen_files(tmp_path, step)[0].unlink()
    assert verify(tmp_path, step).reason == "frozen-0.safetensors: missing"
    assert verify(tmp_path, 30 - step).state == "valid"


def test_a_file_system_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Path, _target: Path) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    made = group(tmp_path)
    made.train(1, 20)
    assert not set(inodes(tmp_path, 10)) & set(inodes(tmp_path, 20))
    assert verify(tmp_path, 20).state == "valid"
    again = group(tmp_path, state=forgotten, attempt=1)
    assert {one.step for one in again.each(lambda rank: again.engines[rank].restore())} == {20}
    again.train(21, 30)
    assert verify(tmp_path, 30).state == "valid"


def test_other_formats_write_them_every_time(tmp_path: Path) -> None:
    class Replicated(PartlyFrozen):
        def view(self, step: int) -> StateView:
            return replace(super().view(step), shards={})

    made = Group(tmp_path, "torch-save", state=Replicated)
    made.train(1, 10)
    made.settle()
    saved = torch.load(tmp_path / "checkpoints" / "step-00000010" / "state.pt", weights_only=True)
    assert {"model/base", "model/other_base"} <= saved.keys()
