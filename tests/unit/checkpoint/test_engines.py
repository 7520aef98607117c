"""The contract of ecrl's own engines: what was committed comes back bit for bit, on every rank, or not at all."""

import errno
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl.checkpoint.sharded import engine as sharded
from ecrl.checkpoint.sharded.engine import NotEnoughMemoryError, ShardedEngine
from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.storage import commit
from ecrl.storage.commit import FileFacts, step_folder
from tests.unit.checkpoint.ranks_in_threads import Group

ENGINES = ["blocking", "overlapped"]


def committed(group: Group) -> list[int]:
    return commit.list_committed_steps(group.folder / "checkpoints")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_restore_gives_back_every_bit_of_every_rank(tmp_path: Path, engine: str, world_size: int) -> None:
    first = Group(tmp_path, engine, world_size)
    first.train(1, 20)
    first.settle()
    expected = [state.generator.get_state() for state in first.states]
    first_weights = first.states[0].weights["model/wide"].clone()

    second = Group(tmp_path, engine, world_size, attempt=1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [20] * world_size
    for rank, outcome in enumerate(restored):
        state = second.states[rank]
        assert outcome.digest_live == outcome.digest_recorded
        assert torch.equal(state.weights["model/wide"], first_weights)
        assert all(bool((shard.rows == 20).all()) for shard in state.shards.values())
        assert state.buffers["own/buffers/count"].item() == 100 * rank + 20
        assert torch.equal(state.generator.get_state(), expected[rank])
        assert state.meta == {"step": 20, "rank": rank}
    second.settle()


@pytest.mark.parametrize("engine", ENGINES)
def test_retention_keeps_the_newest_committed_ones(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, keep=3)
    group.train(1, 70)
    group.settle()
    assert committed(group) == [50, 60, 70]
    assert commit.list_steps(tmp_path / "checkpoints") == [50, 60, 70]
    assert [e["s"] for e in group.events(0, "removed")] == [10, 20, 30, 40]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_complete_run_keeps_only_its_newest_checkpoint(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, keep=3)
    group.train(1, 50)
    group.each(lambda rank: group.engines[rank].drain())
    assert committed(group) == [50]
    assert len(group.events(1, "drain")) == 1


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("victim", ["shard-0.safetensors", "shard-1.safetensors", "rank-1.json", "COMMIT.json"])
def test_a_damaged_checkpoint_is_passed_over_by_all_ranks(tmp_path: Path, engine: str, victim: str) -> None:
    first = Group(tmp_path, engine)
    first.train(1, 20)
    first.settle()
    path = step_folder(tmp_path / "checkpoints", 20) / victim
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(bytes(data))

    second = Group(tmp_path, engine, attempt=1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [10, 10]
    assert all(r.passed_over[0]["step"] == 20 for r in restored)
    assert victim in restored[0].passed_over[0]["reason"]
    second.train(11, 20)  # the rejected folder is out of the way of the step's second checkpoint
    second.settle()
    assert committed(second) == [10, 20]
    assert (tmp_path / "checkpoints" / "rejected-00000020-attempt1").is_dir()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_that_one_rank_alone_cannot_read_is_passed_over_by_all(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Group(tmp_path, engine)
    first.train(1, 20)
    first.settle()
    second = Group(tmp_path, engine, attempt=1)
    whole = commit.verify
    asked: list[int] = []

    def one_refuses(root: Path, step: int, **expected: Any) -> commit.Verdict:
        asked.append(step)
        if asked.count(20) == 1 and step == 20:
            return commit.Verdict(step, "corrupt", "bad sector")
        return whole(root, step, **expected)

    monkeypatch.setattr("ecrl.storage.commit.verify", one_refuses)
    assert [r.step for r in second.each(lambda rank: second.engines[rank].restore())] == [10, 10]
    second.settle()


@pytest.mark.parametrize("engine", ENGINES)
def test_without_a_commit_training_begins_at_step_0_and_partial_folders_go(tmp_path: Path, engine: str) -> None:
    first = Group(tmp_path, engine)
    first.train(1, 10)
    first.settle()
    (step_folder(tmp_path / "checkpoints", 10) / commit.COMMIT_FILE).unlink()
    second = Group(tmp_path, engine, attempt=1)
    assert [r.step for r in second.each(lambda rank: second.engines[rank].restore())] == [0, 0]
    assert commit.list_steps(tmp_path / "checkpoints") == []
    second.settle()


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(errno.ENOSPC, "No space left on device"), "No space left on device"), (MemoryError(), "out of memory")],
    ids=["disk", "memory"],
)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_failed_write_is_counted_on_every_rank_and_costs_only_that_checkpoint(
    tmp_path: Path, engine: str, error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing_once(folder: Path, slot: Any, **facts: Any) -> dict[str, FileFacts]:
        if facts["step"] == 20 and facts["rank"] == 1:
            raise error
        return write_rank(folder, slot, **facts)

    monkeypatch.setattr(sharded, "write_rank", failing_once)
    group = Group(tmp_path, engine)
    group.train(1, 30)
    group.settle()
    assert committed(group) == [10, 30]
    for rank in range(2):
        failures = group.events(rank, "persist_failed")
        assert [e["s"] for e in failures] == [20]
        assert f"rank 1: {said}" in failures[0]["reason"]
    assert [e["s"] for e in group.events(0, "committed")] == [10, 30]


def test_overlapped_training_goes_on_until_max_inflight_and_then_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def slow(folder: Path, slot: Any, **facts: Any) -> dict[str, FileFacts]:
        assert gate.wait(20)
        return write_rank(folder, slot, **facts)

    monkeypatch.setattr(sharded, "write_rank", slow)
    group = Group(tmp_path, "overlapped", world_size=1, max_inflight=2)
    group.train(1, 29)
    assert [e["s"] for e in group.events(0, "save")] == [10, 20]
    assert committed(group) == []
    third = threading.Thread(target=group.train, args=(30, 30))
    third.start()
    third.join(0.3)
    assert third.is_alive()  # both slots are in flight
    gate.set()
    third.join(20)
    group.settle()
    waited = group.events(0, "save")[2]
    assert waited["t_slot"] - waited["t0"] >= 0.2e9  # the wait is on record as waiting for a slot
    assert committed(group) == [20, 30]


def test_a_bug_in_the_background_ends_training_instead_of_saving_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> dict[str, FileFacts]:
        raise ValueError("a bug")

    monkeypatch.setattr(sharded, "write_rank", broken)
    group = Group(tmp_path, "overlapped", world_size=1, max_inflight=1)
    group.train(1, 10)
    with pytest.raises(RuntimeError, match="persister thread ended") as raised:
        group.train(11, 30)
    assert isinstance(raised.value.__cause__, ValueError)


def test_slots_that_do_not_fit_into_memory_are_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "usable_memory_bytes", lambda: 10_000)
    with pytest.raises(NotEnoughMemoryError, match=r"50 slots .* 2 ranks .*max_inflight"):
        Group(tmp_path, "overlapped", max_inflight=50)


def test_both_engines_write_the_same_bytes(tmp_path: Path) -> None:
    shards = []
    for name in ENGINES:
        (tmp_path / name).mkdir()
        group = Group(tmp_path / name, name)
        assert isinstance(group.engines[0], ShardedEngine)
        group.train(1, 10)
        group.settle()
        folder = step_folder(tmp_path / name / "checkpoints", 10)
        shards.append({p.name: p.read_bytes() for p in sorted(folder.iterdir())})
    assert shards[0] == shards[1]
