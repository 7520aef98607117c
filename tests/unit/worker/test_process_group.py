"""A rank's device and its process group, as the back end of the run has them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.worker import process_group
from ecrl.worker.build import take_device
from ecrl.worker.rank_info import RankInfo


def spec(device: str, **train: Any) -> RunSpec:
    return RunSpec(
        prefix="p", suite_id="s", dataset="noise", model="cnn", failure_label="none", checkpoint_every=2,
        max_inflight=1, variant="reference", seed=1, device=device, train=TrainSettings(steps=2, nproc=5, **train),
        checkpoint=CheckpointSettings(), failures=(),
    )  # fmt: skip


def rank_info(rank: int) -> RankInfo:
    return RankInfo(rank=rank, local_rank=rank, world_size=5, attempt=0, store_host="localhost", store_port=1)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """A machine with so many GPUs; returns the list of those that a rank made its own."""

    def made(count: int) -> list[int]:
        taken: list[int] = []

        def set_device(index: int) -> None:
            if index >= count:
                raise RuntimeError("invalid device ordinal")
            taken.append(index)

        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "set_device", set_device)
        return taken

    return made


def test_over_nccl_each_rank_has_a_gpu_of_its_own(machine: Callable[[int], list[int]]) -> None:
    taken = machine(4)
    devices = [take_device(spec("cuda"), rank_info(rank)) for rank in range(4)]
    assert taken == [device.index for device in devices] == [0, 1, 2, 3]
    with pytest.raises(RuntimeError, match="invalid device"):
        take_device(spec("cuda", backend="nccl"), rank_info(4))


def test_over_gloo_ranks_share_the_gpus_that_there_are(machine: Callable[[int], list[int]]) -> None:
    taken = machine(2)
    devices = [take_device(spec("cuda", backend="gloo"), rank_info(rank)) for rank in range(5)]
    assert taken == [device.index for device in devices] == [0, 1, 0, 1, 0]
    machine(0)
    with pytest.raises(RuntimeError, match="invalid device"):
        take_device(spec("cuda", backend="gloo"), rank_info(0))


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        ("auto", "cuda", "nccl"),
        ("auto", "cpu", "gloo"),
        ("gloo", "cuda", "gloo"),
        ("gloo", "cpu", "gloo"),
        ("nccl", "cuda", "nccl"),
    ],
)
def test_the_group_has_the_back_end_that_the_settings_mean(
    backend: str, device: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(process_group, "connect", lambda _place: dist.HashStore())  # type: ignore[attr-defined]
    monkeypatch.setattr(dist, "init_process_group", lambda name, **_: started.append(name))
    process_group.start_group(rank_info(0), spec(device, backend=backend).train.get_backend(device))
    assert started == [expected]
