"""Where an engine lets a failure strike lies inside the phase: shown by what is on disk and in memory there."""

from pathlib import Path

import pytest

from ecrl.storage import commit
from ecrl.storage.commit import COMMIT_FILE, step_folder
from tests.unit.checkpoint.ranks_in_threads import Group

ENGINES = ["blocking", "overlapped"]
PHASES = ("staging", "persist", "commit", "retention")


class Looks:
    """Called by both ranks' engines; notes what is there when rank 0 comes by."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkpoints"
        self.seen: list[tuple[str, int]] = []
        self.found: dict[tuple[str, int], list[str]] = {}
        self.loaded: list[set[float]] = []
        self.group: Group | None = None

    def reached(self, phase: str, step: int) -> None:
        self.seen.append((phase, step))
        folder = step_folder(self.root, step)
        self.found[phase, step] = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
        if phase == "retention":
            old = step_folder(self.root, step - 20)
            self.found["old", step] = sorted(p.name for p in old.iterdir())
        if phase == "restore" and self.group is not None:
            weights = self.group.states[0].weights.values()
            self.loaded.append({float(t.flatten()[0]) for t in weights if t.numel()})


@pytest.mark.parametrize("engine", ENGINES)
def test_each_phase_is_struck_inside_itself(tmp_path: Path, engine: str) -> None:
    looks = Looks(tmp_path)
    group = Group(tmp_path, engine, 1, reached=looks.reached)
    group.train(1, 30)
    group.settle()
    assert [s for s in looks.seen if s[1] == 30] == [(phase, 30) for phase in PHASES]
    for kept in (10, 20):
        assert [s for s in looks.seen if s[1] == kept] == [(phase, kept) for phase in PHASES[:3]]
    shard = step_folder(tmp_path / "checkpoints", 30) / "shard-0.safetensors"
    assert looks.found["staging", 30] == []
    assert looks.found["persist", 30] == [shard.name]  # begun, and rank-0.json not there yet
    assert looks.found["commit", 30] == ["rank-0.json", shard.name]
    assert looks.found["retention", 30] == [COMMIT_FILE, "rank-0.json", shard.name]
    assert looks.found["old", 30] == ["rank-0.json", shard.name]  # withdrawn, its files still there
    assert commit.list_steps(tmp_path / "checkpoints") == [20, 30]


def test_persist_is_struck_when_half_of_the_tensors_is_written(tmp_path: Path) -> None:
    sizes: list[int] = []
    shard = step_folder(tmp_path / "checkpoints", 10) / "shard-0.safetensors"

    def reached(phase: str, _: int) -> None:
        if phase == "persist":
            sizes.append(shard.stat().st_size)

    group = Group(tmp_path, "blocking", 1, reached=reached)
    group.train(1, 10)
    group.settle()
    header = 8 + int.from_bytes(shard.read_bytes()[:8], "little")
    assert sizes == [header + (shard.stat().st_size - header) // 2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("world_size", [1, 3])
def test_restore_is_struck_when_part_of_the_state_is_loaded(tmp_path: Path, engine: str, world_size: int) -> None:
    first = Group(tmp_path, engine, world_size)
    first.train(1, 10)
    first.settle()
    looks = Looks(tmp_path)
    second = Group(tmp_path, engine, world_size, attempt=1, reached=looks.reached)
    looks.group = second
    second.engines[0].restore() if world_size == 1 else second.each(lambda rank: second.engines[rank].restore())
    second.settle()
    assert ("restore", 10) in looks.seen
    assert {0.0, 10.0} in looks.loaded


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restart_with_nothing_to_load_is_struck_too(tmp_path: Path, engine: str) -> None:
    looks = Looks(tmp_path)
    group = Group(tmp_path, engine, 1, reached=looks.reached)
    assert group.engines[0].restore().step == 0
    group.settle()
    assert looks.seen == [("restore", 0)]


@pytest.mark.parametrize("engine", ENGINES)
def test_giving_disk_back_at_the_end_is_no_retention(tmp_path: Path, engine: str) -> None:
    looks = Looks(tmp_path)
    group = Group(tmp_path, engine, 1, reached=looks.reached)
    group.train(1, 20)
    group.engines[0].drain()
    assert commit.list_steps(tmp_path / "checkpoints") == [20]
    assert "retention" not in {phase for phase, _ in looks.seen}
