"""Engines that save in the background: what waits for what, and what goes wrong there."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ecrl import plugins
from ecrl.checkpoint.external.base import ExternalEngine
from tests.extras import list_cases
from tests.unit.checkpoint.external.engines import next_attempt
from tests.unit.checkpoint.ranks_in_threads import Group

pytestmark = pytest.mark.timeout(240)  # a writer process starts an interpreter, slowly on a busy machine


class Gate:
    """Holds up the writes of the engines that save in the background, wherever these make them."""

    def __init__(self, engine: str, patch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
        plugins.load("engine", engine)  # imports the library without its warnings
        if engine == "dcp-async":
            flush = os.fsync

            def slow(fd: int) -> None:
                self.wait()
                flush(fd)

            patch.setattr(os, "fsync", slow)
        elif engine == "torchsnapshot":
            from torchsnapshot.storage_plugins.fs import FSStoragePlugin

            write = FSStoragePlugin.write

            async def late(storage: Any, write_io: Any) -> None:
                # in a thread of its own: the loop that writes is the one that copies, and the copy goes on
                await asyncio.to_thread(self.wait)
                await write(storage, write_io)

            patch.setattr(FSStoragePlugin, "write", late)

    def open(self) -> None:
        self._open.set()

    def wait(self) -> None:
        assert self._open.wait(20)


# not torch-checkpointing: its writer is another process, in which nothing can be put in place; see below
BACKGROUND = ["dcp-async", "torchsnapshot"]


@pytest.mark.parametrize("engine", BACKGROUND)
def test_one_save_is_in_flight_and_the_next_one_waits(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(engine, monkeypatch)
    group = Group(tmp_path, engine, world_size=1, max_inflight=4)
    group.train(1, 19)  # returned: the first save goes on in the background
    second = threading.Thread(target=group.train, args=(20, 20))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    gate.open()
    second.join(20)
    group.settle()
    waited = group.events(0, "save")[1]
    assert waited["t_slot"] - waited["t0"] >= 0.2e9  # on record as waiting for a slot
    assert [e["s"] for e in group.events(0, "staged")] == [10, 20]


@pytest.mark.parametrize("slab_bytes", ["1000", "134217728"], ids=["large", "small"])
@pytest.mark.parametrize("engine", BACKGROUND)
def test_what_is_written_is_the_state_of_the_call_and_not_what_training_made_of_it(
    tmp_path: Path, engine: str, slab_bytes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torchsnapshot writes tensors of a slab and more, by default 128 MiB, straight from the state
    monkeypatch.setenv("TORCHSNAPSHOT_SLAB_SIZE_THRESHOLD_BYTES_OVERRIDE", slab_bytes)
    gate = Gate(engine, monkeypatch)
    first = Group(tmp_path, engine, world_size=1)
    first.train(1, 10)
    first.states[0].train_to(11)
    gate.open()
    first.settle()
    second = next_attempt(first, step=10)
    for tensor in (second.states[0].weights | second.states[0].buffers).values():
        assert not tensor.numel() or (tensor.min().item(), tensor.max().item()) == (10, 10)
    second.settle()


@pytest.mark.parametrize("engine", list_cases(["torch-checkpointing"]))
def test_training_waits_for_the_copy_of_torch_checkpointing_before_it_updates_and_not_before_its_forward(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_checkpointing._state_dict_stager import StateDictStager

    gate, stage = threading.Event(), StateDictStager.stage

    def late(stager: Any, state: Any) -> Any:
        if "state" in state and state["state"]["model/wide"].max() > 0:  # not the one that prepares
            assert gate.wait(20)
        return stage(stager, state)

    monkeypatch.setattr(StateDictStager, "stage", late)
    first = Group(tmp_path, engine, world_size=1)
    first.train(1, 10)
    state = first.states[0]
    first.engines[0].before_forward()
    for tensor in state.buffers.values():
        tensor.fill_(99)  # as a forward does, while the copy has not begun
    update = threading.Thread(target=first.train, args=(11, 11))
    update.start()
    update.join(0.3)
    assert update.is_alive()
    gate.set()
    update.join(20)
    first.settle()
    assert [e["s"] for e in first.events(0, "fence")] == [11]
    second = next_attempt(first, step=10)
    for tensor in (second.states[0].weights | second.states[0].buffers).values():
        assert not tensor.numel() or (tensor.min().item(), tensor.max().item()) == (10, 10)
    second.settle()


@pytest.mark.parametrize("engine", list_cases([*BACKGROUND, "torch-checkpointing"]))
def test_a_bug_in_the_background_ends_training(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(ExternalEngine, "_record_commit", broken)
    group = Group(tmp_path, engine, world_size=1)
    group.train(1, 10)
    with pytest.raises(RuntimeError, match="background save ended") as raised:
        group.train(11, 20)
    assert isinstance(raised.value.__cause__, ValueError)
