"""Every engine keeps the contract of a checkpoint; the engines of other formats also keep what they declare.

PyTorch's DCP needs a process group, of which a process has one: in threads it is tried with one rank, with more
in tests/process/test_bitwise.py.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl import plugins
from ecrl.checkpoint.engine import EnginePlugin
from ecrl.storage.commit import list_steps, step_folder, verify
from ecrl.storage.formats import find_complete_format, find_partial_format, has_own_format, load_formats
from tests.extras import list_cases
from tests.unit.checkpoint.external.engines import ENGINES, PEERS, next_attempt
from tests.unit.checkpoint.ranks_in_threads import SEVERAL_IN_THREADS, Group, ToyState

pytestmark = pytest.mark.timeout(240)  # a writer process starts an interpreter, slowly on a busy machine

CASES = [case for n in (1, 2, 3) for case in list_cases([e for e in ENGINES if n == 1 or e in SEVERAL_IN_THREADS], n)]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_says_what_it_promises(engine: str) -> None:
    plugin = plugins.load("engine", engine)
    assert isinstance(plugin, EnginePlugin)
    assert plugin.description
    assert plugin.exact  # else no run of it could ever count as correct
    made = {
        *("description", "make", "durable", "verified", "exact", "limits", "sharded", "late_state"),
        *("ignores_max_inflight", "streams", "falls_back", "format", "options"),
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
