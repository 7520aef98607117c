"""Engines of other formats: what is half written, refused by a disk, or of another run or model."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl.checkpoint.state_view import ForeignCheckpointError
from ecrl.storage.commit import list_steps, step_folder
from tests.extras import list_cases
from tests.unit.checkpoint.external.engines import PEERS, next_attempt
from tests.unit.checkpoint.ranks_in_threads import Group

pytestmark = pytest.mark.timeout(240)  # a writer process starts an interpreter, slowly on a busy machine


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
