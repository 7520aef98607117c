"""The devices of training jobs."""

import os
from pathlib import Path

import pytest

from ecrl.config.load import load
from ecrl.config.matrix import Matrix
from ecrl.experiments.training.run import list_device_sets
from tests.unit.launch.stand_in import MATRIX


def matrix(tmp_path: Path, run: str = "") -> Matrix:
    path = tmp_path / "m.toml"
    path.write_text(f"{MATRIX}[run]\n{run}\n")
    return load(path)


def test_sets_are_disjoint_and_as_large_as_a_run(tmp_path: Path) -> None:
    asked = matrix(tmp_path, 'device = "cuda"\ngpus = [4, 5, 6]')
    assert [str(s) for s in list_device_sets(asked, 8, {})] == ["gpu 4,5"]
    asked = matrix(tmp_path, 'device = "cuda"')
    assert [s.gpus for s in list_device_sets(asked, 4, {})] == [("0", "1"), ("2", "3")]
    assert [s.gpus for s in list_device_sets(asked, 2, {"CUDA_VISIBLE_DEVICES": "6,7"})] == [("6", "7")]
    assert [str(s) for s in list_device_sets(asked, 0, {"ECRL_FAKE_GPUS": "5"})] == ["fake 0,1", "fake 2,3"]


def test_ranks_that_outnumber_the_gpus_take_all_of_them(tmp_path: Path) -> None:
    asked = matrix(tmp_path, 'device = "cuda"')
    shared = asked.model_copy(update={"train": asked.train.model_copy(update={"backend": "gloo", "nproc": 5})})
    assert [s.gpus for s in list_device_sets(shared, 1, {})] == [("0",)]
    assert [s.gpus for s in list_device_sets(shared, 3, {})] == [("0", "1", "2")]
    assert [s.gpus for s in list_device_sets(shared, 11, {})] == [("0", "1", "2", "3", "4"), ("5", "6", "7", "8", "9")]


def test_a_run_wider_than_the_machine_takes_all_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert [str(s) for s in list_device_sets(matrix(tmp_path), 0, {})] == ["cpu 0"]
