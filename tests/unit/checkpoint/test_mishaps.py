"""Disks and ranks that misbehave half-way: nothing wrong is restored, nothing good is lost, all ranks agree."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from ecrl.checkpoint.agreement import Agreement, AgreementError
from ecrl.checkpoint.sharded import engine as sharded
from ecrl.checkpoint.sharded import persist
from ecrl.checkpoint.sharded.engine import NotEnoughMemoryError, RestoreError
from ecrl.checkpoint.state_view import ForeignCheckpointError, Layout, UnsupportedDtypeError
from ecrl.records.recorder import Recorder
from ecrl.storage import atomic, commit
from ecrl.storage.commit import Verdict, step_folder
from tests.unit.checkpoint.ranks_in_threads import Group

ENGINES = ["blocking", "overlapped"]


def failed(group: Group, rank: int) -> list[int]:
    return [e["s"] for e in group.events(rank, "persist_failed")]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_commit_that_is_not_durable_is_withdrawn_and_no_older_one_goes_for_it(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = atomic.fsync_dir

    def broken_after_the_replace(folder: Path) -> None:
        if folder.name == "step-00000030":
            raise OSError(errno.EIO, "Input/output error")
        whole(folder)

    monkeypatch.setattr(atomic, "fsync_dir", broken_after_the_replace)
    group = Group(tmp_path, engine)
    group.train(1, 30)
    group.each(lambda rank: group.engines[rank].drain())
    assert [failed(group, rank) for rank in range(2)] == [[30], [30]]
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [20]
    second = Group(tmp_path, engine, attempt=1)
    assert [r.step for r in second.each(lambda rank: second.engines[rank].restore())] == [20, 20]
    second.settle()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_that_is_given_up_gives_its_room_back_on_every_rank(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_in_the_middle(fd: int, data: bytes | memoryview) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if str(path).endswith("step-00000020/shard-1.safetensors"):
            os.write(fd, bytes(data)[:8])
            raise OSError(errno.ENOSPC, "No space left on device")
        atomic.write_all(fd, data)

    monkeypatch.setattr(persist, "write_all", full_in_the_middle)
    group = Group(tmp_path, engine)
    group.train(1, 30)
    group.settle()
    assert [failed(group, rank) for rank in range(2)] == [[20], [20]]
    assert (
        commit.list_steps(tmp_path / "checkpoints") == commit.list_committed_steps(tmp_path / "checkpoints") == [10, 30]
    )


@pytest.mark.parametrize("late_at", ["the folder", "its first file"])
def test_the_folder_of_one_that_was_given_up_goes_with_the_last_rank_and_the_next_attempt_may_save_it(
    tmp_path: Path, late_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, given_up = threading.Event(), threading.Event()
    hear, event = Agreement.gather_all, Recorder.event

    def impatient(agreement: Agreement, topic: str) -> list[Any]:
        if topic == "persisted/20/0":
            assert late_at == "the folder" or made.wait(20)
            raise AgreementError(f"{topic}: rank 1 said nothing")
        return hear(agreement, topic)

    def late(place: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def held(path: Path, *arguments: Any, **how: Any) -> Any:
            if (
                place == late_at
                and (how.get("rank") == 1 or path.name == "shard-1.safetensors")
                and "step-00000020" in str(path)
            ):
                made.set()
                assert given_up.wait(20)
            return call(path, *arguments, **how)

        return held

    def telling(recorder: Recorder, kind: str, /, **fields: Any) -> None:
        event(recorder, kind, **fields)
        if kind == "persist_failed":  # of rank 0 first: the other is late
            given_up.set()

    with monkeypatch.context() as patch:
        patch.setattr(Agreement, "gather_all", impatient)
        patch.setattr(sharded, "write_rank", late("the folder", persist.write_rank))
        patch.setattr(persist, "_write_durable", late("its first file", persist._write_durable))
        patch.setattr(Recorder, "event", telling)
        first = Group(tmp_path, "overlapped")
        first.train(1, 20)
        first.settle()
    assert [failed(first, rank) for rank in range(2)] == [[20], [20]]
    assert commit.list_steps(tmp_path / "checkpoints") == [10]
    second = Group(tmp_path, "overlapped", attempt=1)
    assert [r.step for r in second.each(lambda rank: second.engines[rank].restore())] == [10, 10]
    second.train(11, 20)
    second.settle()
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [10, 20]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_checkpoint_that_cannot_be_removed_costs_nothing_but_its_room_until_it_can(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, refusals = shutil.rmtree, iter([True])

    def busy_once(path: Path) -> None:
        if path.name == "step-00000010" and next(refusals, False):
            raise OSError(errno.ENOTEMPTY, "Directory not empty", str(path))
        whole(path)

    monkeypatch.setattr(shutil, "rmtree", busy_once)
    group = Group(tmp_path, engine)
    group.train(1, 40)
    group.settle()
    assert [e["s"] for e in group.events(0, "committed")] == [10, 20, 30, 40]
    assert [e["s"] for e in group.events(0, "remove_failed")] == [10]
    assert [e["s"] for e in group.events(0, "removed")] == [10, 20]
    assert [failed(group, rank) for rank in range(2)] == [[], []]
    assert commit.list_steps(tmp_path / "checkpoints") == [30, 40]


def damage(root: Path, step: int) -> None:
    path = step_folder(root, step) / "shard-1.safetensors"
    data = bytearray(path.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 1  # the first byte of the first tensor
    path.write_bytes(bytes(data))


def believed(_root: Path, step: int) -> Verdict:
    """As if every file had been whole when it was verified."""
    return Verdict(step, "valid")


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_damaged_after_it_was_verified_is_noticed_on_load_and_passed_over(tmp_path: Path, engine: str) -> None:
    first = Group(tmp_path, engine)
    first.train(1, 20)
    first.settle()
    damage(tmp_path / "checkpoints", 20)
    second = Group(tmp_path, engine, attempt=1, verify=believed)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [10, 10]
    assert restored[0].passed_over[0]["step"] == 20
    assert all(r.digest_live == r.digest_recorded for r in restored)
    second.settle()


def test_a_state_overwritten_by_what_did_not_load_is_not_trained_on(tmp_path: Path) -> None:
    first = Group(tmp_path, "blocking")
    first.train(1, 20)
    first.settle()
    for step in (10, 20):
        damage(tmp_path / "checkpoints", step)
    second = Group(tmp_path, "blocking", attempt=1, verify=believed)
    with pytest.raises(RestoreError, match=r'"step": 20.*"step": 10'):
        second.each(lambda rank: second.engines[rank].restore())
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [10, 20]  # the evidence stays


@pytest.mark.parametrize(
    ("name", "tensor", "said"),
    [
        ("model/wide", torch.zeros(()), r"model/wide: found \(.*\), expected \(\)"),
        ("model/new", torch.zeros(3), "model/new"),
        ("model/bias", torch.zeros(33).double(), r"model/bias: found torch\.float32, expected torch\.float64"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_left_alone(
    tmp_path: Path, name: str, tensor: torch.Tensor, said: str
) -> None:
    first = Group(tmp_path, "overlapped")
    first.train(1, 20)
    first.settle()
    second = Group(tmp_path, "overlapped", attempt=1)
    for state in second.states:
        state.weights[name] = tensor.clone()
    with pytest.raises(ForeignCheckpointError, match=said):
        second.each(lambda rank: second.engines[rank].restore())
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [10, 20]


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_process_out_of_descriptors_or_memory_condemns_no_checkpoint(
    tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Group(tmp_path, "blocking", world_size=1)
    first.train(1, 10)
    first.settle()

    def exhausted(_: Path) -> commit.FileFacts:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(commit, "file_facts", exhausted)
    second = Group(tmp_path, "blocking", world_size=1, attempt=1)
    with pytest.raises(OSError, match=os.strerror(code)):
        second.each(lambda rank: second.engines[rank].restore())
    assert commit.list_committed_steps(tmp_path / "checkpoints") == [10]


def test_ranks_of_one_machine_are_refused_together_by_what_is_free_before_any_takes_its_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = iter([10**12, 10_000])  # one rank looked before, one after something else took the memory
    monkeypatch.setattr(sharded, "usable_memory_bytes", lambda: next(seen))
    refused = []

    class CountedError(NotEnoughMemoryError):
        def __init__(self, *words: object) -> None:
            refused.append(words)
            super().__init__(*words)

    monkeypatch.setattr(sharded, "NotEnoughMemoryError", CountedError)
    with pytest.raises(NotEnoughMemoryError, match="2 ranks"):
        Group(tmp_path, "overlapped", max_inflight=50)
    assert len(refused) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_commit_without_memory_is_counted_and_leaves_nothing(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(path: Path, data: bytes) -> None:
        atomic.write_atomic(path, data)
        if path.parent.name == "step-00000020":
            raise MemoryError

    monkeypatch.setattr(commit, "write_atomic", exhausted)
    group = Group(tmp_path, engine)
    group.train(1, 30)
    group.settle()
    for rank in range(2):
        assert [(e["s"], e["reason"]) for e in group.events(rank, "persist_failed")] == [(20, "commit: out of memory")]
    assert commit.list_steps(tmp_path / "checkpoints") == [10, 30]


def test_a_type_that_no_shard_can_hold_is_refused_before_the_first_step() -> None:
    with pytest.raises(UnsupportedDtypeError, match=r"model/phase: safetensors cannot hold torch\.complex64"):
        Layout({"model/phase": torch.zeros(3, dtype=torch.complex64)})


def test_a_commit_file_nested_without_end_is_corrupt_and_no_crash(tmp_path: Path) -> None:
    folder = step_folder(tmp_path, 10)
    folder.mkdir()
    (folder / commit.COMMIT_FILE).write_bytes(b"[" * 100_000)
    assert commit.verify(tmp_path, 10).state == "corrupt"


def ranks(count: int, timeout_s: float) -> list[Agreement]:
    store = HashStore()
    return [Agreement(store, rank, count, timeout_s) for rank in range(count)]


def test_a_verdict_is_everybodys_however_long_rank_0_takes() -> None:
    group = ranks(3, 0.2)

    def judge(words: list[str]) -> str:
        time.sleep(0.7)  # more than three timeouts
        return "+".join(words)

    with ThreadPoolExecutor(3) as pool:
        verdicts = list(pool.map(lambda a: a.decide("t", f"r{a.rank}", judge), group))
    assert verdicts == ["r0+r1+r2"] * 3


def test_an_exchange_waits_for_a_rank_that_is_later_than_a_commit_may_be() -> None:
    group = ranks(2, 0.1)

    def one(agreement: Agreement) -> list[Any]:
        if agreement.rank == 0:
            time.sleep(0.5)
        return agreement.exchange("t", agreement.rank)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, group)) == [[0, 1], [0, 1]]


def test_one_timeout_is_for_all_ranks_together_and_the_late_one_hears_that_it_was() -> None:
    group = ranks(3, 0.4)
    late = threading.Event()
    heard: dict[int, str] = {}

    def one(agreement: Agreement) -> None:
        if agreement.rank == 2:
            late.wait(20)
        try:
            heard[agreement.rank] = agreement.decide("t", "word", lambda _: pytest.fail("judged without rank 2"))
        except AgreementError as error:
            heard[agreement.rank] = f"raised: {error}"
            late.set()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one, group))
    silence = "t: rank 2 said nothing within 0.4 s"
    assert heard == {0: f"raised: {silence}", 1: silence, 2: silence}


def test_the_folder_above_the_checkpoints_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr(sharded, "fsync_dir", flushed.append)
    for attempt in range(2):
        Group(tmp_path, "blocking", world_size=1, attempt=attempt).settle()
        assert flushed == [tmp_path]  # once: a flush after a crash waits for all that the dead ranks had written


def test_a_verdict_in_json_survives_the_store() -> None:
    (only,) = ranks(1, 1.0)
    assert only.decide("t", {"files": {"a": [1, "x"]}}, json.dumps) == '[{"files": {"a": [1, "x"]}}]'
