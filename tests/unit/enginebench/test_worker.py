"""The bench's gauges read what they say, and it refuses devices whose times mean nothing."""

import os
from pathlib import Path

import pytest
import torch

from ecrl.enginebench import gauges
from ecrl.enginebench.gauges import CopyFloor, FsyncCounter
from ecrl.enginebench.worker import RefusedError, TaggedRecorder, usable_device
from ecrl.records.reader import read_events
from tests.unit.checkpoint.ranks_in_threads import ToyState


def test_fsyncs_are_counted_and_still_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.setattr(os, "fsync", done.append)
    counter = FsyncCounter()
    counter.install()
    with (tmp_path / "file").open("wb") as file:
        os.fsync(file.fileno())
        os.fsync(file.fileno())
        assert done == [file.fileno()] * 2
    assert [counter.take_count(), counter.take_count()] == [2, 0]


def test_the_peak_of_memory_starts_anew() -> None:
    assert gauges.reset_peak()
    before = gauges.peak_bytes()
    block = torch.ones(64 << 20, dtype=torch.uint8)
    assert gauges.peak_bytes() - before >= 0.9 * block.nbytes
    del block
    gauges.release_free_memory()
    assert gauges.reset_peak()
    assert gauges.peak_bytes() - before < 32 << 20


def test_the_floor_copies_the_whole_state_of_a_rank() -> None:
    state = ToyState(0)
    state.train_to(3)
    view = state.view(3)
    floor = CopyFloor(view, torch.device("cpu"))
    tensors = view.replicated | view.local | view.host
    assert floor.bytes == sum(t.nbytes for t in tensors.values())
    assert floor.sample_ns() > 0
    assert all(torch.equal(a, b) for a, b in zip(floor._targets, tensors.values(), strict=True))


def test_every_event_carries_its_segment(tmp_path: Path) -> None:
    recorder = TaggedRecorder(tmp_path / "events.jsonl", 7)
    recorder.event("save", s=3)
    recorder.close()
    (event,) = read_events(tmp_path / "events.jsonl", [])
    assert (event["e"], event["s"], event["segment"]) == ("save", 3, 7)


def test_a_stand_in_for_cuda_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _gpu: "FakeCUDA stand-in")
    with pytest.raises(RefusedError, match=r"'FakeCUDA stand-in'.* --device cpu"):
        usable_device("auto", 1)
    assert usable_device("cpu", 1) == "cpu"


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _gpu: "NVIDIA H100")
    assert usable_device("cuda", 1) == "cuda"
    with pytest.raises(RefusedError, match=r"1 GPUs .*2 ranks.* --device cpu"):
        usable_device("cuda", 2)
