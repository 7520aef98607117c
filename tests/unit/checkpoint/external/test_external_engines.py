"""Every engine keeps the contract of a checkpoint; the engines of other formats also keep what they declare.

PyTorch's DCP needs a process group, of which a process has one: in threads it is tried with one rank, with more
in tests/process/test_bitwise.py.
"""

import asyncio
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from ecrl import plugins
from ecrl.checkpoint.engine import EnginePlugin
from ecrl.checkpoint.external.base import ExternalEngine
from ecrl.checkpoint.state_view import ForeignCheckpointError
from ecrl.storage.commit import list_steps, step_folder, verify
from ecrl.storage.formats import find_complete_format, find_partial_format, has_own_format, load_formats
from tests.extras import list_cases, need
from tests.unit.checkpoint.ranks_in_threads import SEVERAL_IN_THREADS, Group, ToyState

pytestmark = pytest.mark.timeout(240)  # a writer process starts an interpreter, slowly on a busy machine
ENGINES = plugins.names("engine")
PEERS = [engine for engine in ENGINES if not has_own_format(engine)]
CASES = [case for n in (1, 2, 3) for case in list_cases([e for e in ENGINES if n == 1 or e in SEVERAL_IN_THREADS], n)]


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    if hasattr(request.node, "callspec") and (engine := request.node.callspec.params.get("engine")):
        need(engine)


@pytest.fixture(autouse=True)
def process_group_of_one() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def next_attempt(group: Group, step: int) -> Group:
    """The group after a crash, restored from the checkpoint of `step`."""
    second = Group(group.folder, group.engine, group.world_size, attempt=group.attempt + 1)
    restored = second.each(lambda rank: second.engines[rank].restore())
    assert [r.step for r in restored] == [step] * group.world_size
    return second


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_says_what_it_promises(engine: str) -> None:
    plugin = plugins.load("engine", engine)
    assert isinstance(plugin, EnginePlugin)
    assert plugin.description
    assert plugin.exact  # else no run of it could ever count as correct
    made = {
        *("description", "make", "durable", "verified", "exact", "limits", "sharded", "ignores_max_inflight"),
        *("streams", "falls_back", "format", "options"),
    }
    assert vars(plugin).keys() == made, "and nothing else"
    for name, value in plugins.declared("engine", engine).items():
        assert getattr(plugin, name) == value
    literal = {name for name in made - {"make"} if getattr(plugin, name) != getattr(EnginePlugin, name, {})}
    assert literal <= plugins.declared("engine", engine).keys(), "all that it says can be read without importing it"


@pytest.mark.parametrize("engine", list_cases(ENGINES))
def test_a_folder_tells_by_its_files_which_format_it_has_and_whether_it_is_whole(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, world_size=1)
    group.train(1, 10)
    group.settle()
    root, folder = tmp_path / "checkpoints", step_folder(tmp_path / "checkpoints", 10)
    found = find_complete_format(folder)
    if has_own_format(engine):
        assert found is None
        assert verify(root, 10).state == "valid"
        return
    shared = plugins.declared("engine", engine)["format"]
    assert found is not None
    assert found.engine == (shared if isinstance(shared, str) else engine)
    assert verify(root, 10).state == "unverifiable"
    (folder / found.complete).unlink()
    assert find_complete_format(folder) is None
    if found.parts:  # else the folder would not have its name yet
        assert find_partial_format(folder) == found


def test_no_two_formats_can_be_taken_for_each_other() -> None:
    formats = load_formats()
    assert len({f.complete for f in formats}) == len(formats) >= 1
    shared = {plugins.declared("engine", engine)["format"] for engine in PEERS if _shares_a_format(engine)}
    assert shared <= {f.engine for f in formats}


def _shares_a_format(engine: str) -> bool:
    return isinstance(plugins.declared("engine", engine)["format"], str)


@pytest.mark.parametrize("engine", ["dcp", "dcp-async"])
def test_dcp_writes_with_as_many_threads_as_its_option_says(tmp_path: Path, engine: str) -> None:
    for threads, folder in ((None, tmp_path / "plain"), (3, tmp_path / "more")):
        folder.mkdir()
        reached: list[tuple[str, int]] = []
        more: dict[str, Any] = {} if threads is None else {"options": {"thread_count": threads}}
        first = Group(
            folder, engine, 1, state=lambda rank: ToyState(rank, 5000),
            reached=lambda phase, step, reached=reached: reached.append((phase, step)), **more,
        )  # fmt: skip
        first.train(1, 10)
        first.settle()
        assert len(list(step_folder(folder / "checkpoints", 10).glob("*.distcp"))) == (threads or 1)
        assert reached == [("staging", 10), ("persist", 10), ("commit", 10)], "each once"
        second = Group(folder, engine, 1, attempt=1, state=lambda rank: ToyState(rank, 5000))
        assert second.engines[0].restore().step == 10
        assert bool((second.states[0].weights["model/more"] == 10).all())
        second.settle()


@pytest.mark.parametrize("fsync", [None, False, True])
def test_torch_save_flushes_its_files_and_folders_where_its_option_says_so(
    tmp_path: Path, fsync: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush, flushed = os.fsync, []

    def note(fd: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{fd}").readlink().relative_to(tmp_path.resolve()).as_posix())
        flush(fd)

    monkeypatch.setattr(os, "fsync", note)
    given: dict[str, Any] = {} if fsync is None else {"options": {"fsync": fsync}}
    group = Group(tmp_path, "torch-save", 1, **given)
    group.train(1, 10)
    group.settle()
    partial = "checkpoints/partial-00000010"
    expected = [f"{partial}/rank-0.pt", f"{partial}/state.pt", partial, "checkpoints"]
    assert flushed == (expected if fsync else [])


@pytest.mark.parametrize(("engine", "world_size"), CASES)
def test_a_restore_gives_back_every_bit_of_every_rank(tmp_path: Path, engine: str, world_size: int) -> None:
    first = Group(tmp_path, engine, world_size)
    first.train(1, 29)
    expected = [{n: t.clone() for n, t in state.weights.items()} for state in first.states]
    for weights in expected:
        for tensor in weights.values():
            tensor.fill_(20)
    generators = [torch.Generator().manual_seed(rank) for rank in range(world_size)]
    for generator in generators:
        for _ in range(20):
            torch.rand(3, generator=generator)

    first.settle()
    second = next_attempt(first, step=20)
    for rank, state in enumerate(second.states):
        assert all(torch.equal(state.weights[n], t) for n, t in expected[rank].items())
        assert state.buffers["own/buffers/count"].item() == 100 * rank + 20
        assert state.buffers["own/buffers/half"].tolist() == [pytest.approx(100 * rank + 20, rel=2**-8)] * 5
        assert torch.equal(state.generator.get_state(), generators[rank].get_state())
        assert state.meta == {"step": 20, "rank": rank}
    second.settle()


@pytest.mark.parametrize("engine", list_cases(ENGINES))
def test_every_requested_checkpoint_is_committed_and_only_the_newest_are_kept(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, world_size=1, keep=3)
    group.train(1, 70)
    group.settle()
    asked = [10, 20, 30, 40, 50, 60, 70]
    assert [e["s"] for e in group.events(0, "save")] == asked
    assert [e["s"] for e in group.events(0, "persisted")] == asked
    assert [e["s"] for e in group.events(0, "committed")] == asked
    assert [e["s"] for e in group.events(0, "removed")] == [10, 20, 30, 40]
    assert list_steps(tmp_path / "checkpoints") == [50, 60, 70]
    assert all(e["bytes"] > 0 for e in group.events(0, "persisted"))


@pytest.mark.parametrize("engine", list_cases(ENGINES))
def test_a_complete_run_keeps_only_its_newest_checkpoint(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, world_size=1)
    group.train(1, 30)
    group.each(lambda rank: group.engines[rank].drain())
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-00000030"]
    assert len(group.events(0, "drain")) == 1


@pytest.mark.parametrize("engine", list_cases(ENGINES))
def test_without_a_checkpoint_training_begins_at_step_0(tmp_path: Path, engine: str) -> None:
    group = Group(tmp_path, engine, world_size=1)
    assert [r.step for r in group.each(lambda rank: group.engines[rank].restore())] == [0]
    group.settle()


@pytest.mark.parametrize("engine", ["dcp", "dcp-async"])
def test_what_dcp_left_half_written_is_no_checkpoint_and_goes(tmp_path: Path, engine: str) -> None:
    first = Group(tmp_path, engine, world_size=1)
    first.train(1, 20)
    first.settle()
    (step_folder(tmp_path / "checkpoints", 20) / ".metadata").unlink()
    second = next_attempt(first, step=10)
    assert list_steps(tmp_path / "checkpoints") == [10]
    second.train(11, 20)
    second.settle()
    assert list_steps(tmp_path / "checkpoints") == [10, 20]


def test_what_torch_save_left_half_written_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    first = Group(tmp_path, "torch-save", world_size=2)
    first.train(1, 20)
    root = tmp_path / "checkpoints"
    step_folder(root, 20).rename(root / "partial-00000020")
    second = next_attempt(first, step=10)
    assert sorted(p.name for p in root.iterdir()) == ["step-00000010"]
    second.train(11, 20)
    assert list_steps(root) == [10, 20]


@pytest.mark.parametrize("engine", list_cases(ENGINES))
def test_every_phase_in_which_a_failure_may_strike_is_reached_in_order(tmp_path: Path, engine: str) -> None:
    reached: list[tuple[str, int]] = []

    def strike(phase: str, step: int) -> None:
        reached.append((phase, step))

    first = Group(tmp_path, engine, world_size=1, keep=2, reached=strike)
    first.train(1, 30)
    first.settle()
    by_step = {step: [phase for phase, s in reached if s == step] for step in (10, 20, 30)}
    assert by_step == {
        10: ["staging", "persist", "commit"],
        20: ["staging", "persist", "commit"],
        30: ["staging", "persist", "commit", "retention"],
    }
    second = Group(tmp_path, engine, world_size=1, attempt=1, reached=strike)
    second.engines[0].restore()
    assert set(reached[10:]) == {("restore", 30)}
    second.settle()


@pytest.mark.parametrize("engine", ["dcp", "dcp-async"])
def test_a_full_disk_costs_dcp_that_checkpoint_only(
    tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def full_at_20(fd: int) -> None:
        if "step-00000020" in str(Path(f"/proc/self/fd/{fd}").readlink()):
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(fd)

    monkeypatch.setattr(os, "fsync", full_at_20)
    group = Group(tmp_path, engine, world_size=1)
    group.train(1, 30)
    group.settle()
    assert [e["s"] for e in group.events(0, "committed")] == [10, 30]
    failures = group.events(0, "persist_failed")
    assert [e["s"] for e in failures] == [20]
    assert "No space left on device" in failures[0]["reason"]
    assert list_steps(tmp_path / "checkpoints") == [10, 30]


def test_a_full_disk_on_one_rank_costs_torch_save_that_checkpoint_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save

    def full_once(content: Any, path: Path) -> None:
        if path.parent.name == "partial-00000020" and path.name == "rank-1.pt":
            raise RuntimeError("PytorchStreamWriter failed writing file data/7\nfile write failed")
        save(content, path)

    monkeypatch.setattr(torch, "save", full_once)
    group = Group(tmp_path, "torch-save", world_size=2)
    group.train(1, 30)
    for rank in range(2):
        failures = group.events(rank, "persist_failed")
        assert [(e["s"], e["reason"]) for e in failures] == [
            (20, "rank 1: PytorchStreamWriter failed writing file data/7")
        ]
    assert [e["s"] for e in group.events(0, "committed")] == [10, 30]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000010", "step-00000030"]


@pytest.mark.parametrize("engine", list_cases(PEERS))
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, engine: str) -> None:
    first = Group(tmp_path, engine, world_size=1)
    first.train(1, 10)
    first.settle()
    second = Group(tmp_path, engine, world_size=1, attempt=1, run_hash="another")
    with pytest.raises(ForeignCheckpointError, match=r'found .*"run": "run".*, expected .*another'):
        second.engines[0].restore()
    second.settle()


# torch-save and torch-checkpointing share their check; DCP says it in words of its own
@pytest.mark.parametrize(
    ("engine", "name", "tensor", "said"),
    [
        ("torch-save", "model/new", torch.zeros(3), "model/new"),
        ("torch-save", "model/scalar", torch.zeros(5, dtype=torch.float64), r"scalar: found \(\), expected \(5,\)"),
        ("torch-save", "model/bias", torch.zeros(33, dtype=torch.float64), r"bias: found torch.float32, expected"),
        ("torchsnapshot", "model/new", torch.zeros(3), "model/new"),
        ("torchsnapshot", "model/scalar", torch.zeros(5, dtype=torch.float64), r"scalar: found \(\), expected \(5,\)"),
        ("torchsnapshot", "model/bias", torch.zeros(33, dtype=torch.float64), r"bias: found torch.float32, expected"),
        *list_cases(
            ["torch-checkpointing"], "model/wide", torch.zeros(33), r"wide: found \(64, 33\), expected \(33,\)"
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, engine: str, name: str, tensor: torch.Tensor, said: str
) -> None:
    first = Group(tmp_path, engine, world_size=1)
    first.train(1, 10)
    first.settle()
    second = Group(tmp_path, engine, world_size=1, attempt=1)
    second.states[0].weights[name] = tensor
    with pytest.raises(ForeignCheckpointError, match=said):
        second.engines[0].restore()
    second.settle()


class Gate:
    """Holds up the writes of the engines that save in the background, wherever these make them."""

    def __init__(self, engine: str, patch: pytest.MonkeyPatch) -> None:
        self._open = threading.Event()
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
