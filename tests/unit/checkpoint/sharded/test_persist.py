"""A rank's file: the same bytes from a snapshot and from the live state, and a call when exactly half is written."""

from pathlib import Path

import pytest
import torch

from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.checkpoint.sharded.snapshot import LiveSlot, LiveStager, Slot, Stager, ThreadStager
from ecrl.checkpoint.state_view import StateView
from ecrl.storage import commit


def state(elements: int) -> StateView:
    torch.manual_seed(1)
    parameters = {
        "model/whole": torch.randn(elements),
        "model/channels_last": torch.randn(2, 3, 5, 7).to(memory_format=torch.channels_last),
        "model/empty": torch.zeros(0),
    }
    return StateView(parameters, {"own/buffers/mean": torch.randn(3)}, {"own/rng/torch": torch.arange(3)}, {"step": 4})


def write(folder: Path, stager: Stager, slot: Slot, view: StateView) -> int:
    """Write a snapshot. Returns the bytes of the tensors that were written at the call halfway."""
    folder.mkdir()
    written: list[int] = []
    step_folder = commit.step_folder(folder, 4)
    header = len(slot.layout.header())

    def look() -> None:
        written.append((step_folder / "shard-0.safetensors").stat().st_size - header)

    stager.begin(slot, view)
    stager.wait(slot)
    facts = write_rank(step_folder, slot, run="r", step=4, rank=0, attempt=0, halfway=look)
    stager.close()
    assert facts["shard-0.safetensors"].bytes == header + slot.layout.payload_bytes
    [half] = written
    return half


@pytest.mark.parametrize("elements", [1, 5_000_000])
def test_the_live_state_and_a_snapshot_of_it_make_the_same_files(tmp_path: Path, elements: int) -> None:
    view = state(elements)
    layout = view.build_layout(0, 1)
    live = LiveSlot(layout)
    halves = [
        write(tmp_path / "copied", ThreadStager(), Slot(layout, pinned=False), view),
        write(tmp_path / "live", LiveStager(), live, view),
    ]
    assert halves == [layout.payload_bytes // 2] * 2
    names = ["shard-0.safetensors", "rank-0.json"]
    for name in names:
        one, other = (commit.step_folder(tmp_path / kind, 4) / name for kind in ("copied", "live"))
        assert one.read_bytes() == other.read_bytes()
    assert live.views["model/whole"].data_ptr() == view.replicated["model/whole"].data_ptr(), "a copy was made"
