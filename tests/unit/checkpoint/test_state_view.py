"""The shard format is plain safetensors, and every rank computes the same shares."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, ThreadStager
from ecrl.checkpoint.state_view import Layout, leaf_digest, partition_tensors, raw_bytes, state_digest
from ecrl.storage.commit import ShardNames, file_facts
from tests.unit.checkpoint.ranks_in_threads import ToyState


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=40), st.integers(1, 7))
def test_every_tensor_is_written_by_one_rank_and_loads_are_balanced(sizes: list[int], world_size: int) -> None:
    tensors = {f"t{i}": torch.empty(size) for i, size in enumerate(sizes)}
    dealt = partition_tensors(tensors, world_size)
    assert sorted(name for share in dealt for name in share) == sorted(tensors)
    loads = [sum(tensors[name].nbytes for name in share) for share in dealt]
    assert max(loads) - min(loads) <= max(t.nbytes for t in tensors.values())
    assert partition_tensors(dict(reversed(list(tensors.items()))), world_size) == dealt


def test_a_shard_opens_with_the_safetensors_library(tmp_path: Path) -> None:
    state = ToyState(rank=1)
    state.train_to(7)
    view = state.view(7)
    tensors = view.replicated | view.local | view.host
    slot = Slot(Layout(tensors), pinned=False)
    stager = ThreadStager()
    stager.begin(slot, view)
    stager.wait(slot)
    stager.close()
    slot.move_to(SlotState.PERSISTING)
    facts = write_rank(tmp_path / "step-00000007", slot, run="r", step=7, rank=1, attempt=0)
    names = ShardNames(1)
    assert set(facts) == {names.tensors, names.facts}
    for name, fact in facts.items():
        assert file_facts(tmp_path / "step-00000007" / name) == fact
    loaded = load_file(tmp_path / "step-00000007" / names.tensors)
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize("change", ["value", "name", "shape", "dtype"])
def test_the_state_digest_sees_values_names_shapes_and_types(change: str) -> None:
    base = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    other = {
        "value": base | {"a": torch.full((2, 3), -0.0)},  # equal as numbers, other bits
        "name": {"a": base["a"], "c": base["b"]},
        "shape": base | {"a": torch.zeros(3, 2)},
        "dtype": base | {"b": torch.ones(4).view(torch.int32)},
    }[change]
    assert state_digest(base) != state_digest(other)
    assert state_digest(dict(reversed(list(base.items())))) == state_digest(base)


def test_raw_bytes_of_views_are_their_own_elements_only() -> None:
    whole = torch.arange(12, dtype=torch.int32).reshape(3, 4)
    assert bytes(raw_bytes(whole[:, 1])) == whole[:, 1].numpy().tobytes()
    assert leaf_digest(whole.t()) == leaf_digest(whole.t().contiguous())
