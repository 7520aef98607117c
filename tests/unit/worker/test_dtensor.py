"""What a rank holds of a tensor that FSDP2 has split, without a second process: on PyTorch's fake process group."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.distributed.tensor import Shard as ShardPlacement
from torch.testing._internal.distributed.fake_pg import FakeStore

from ecrl.checkpoint.state_view import Shard, StateView
from ecrl.worker.dtensor import UnsupportedShardingError, find_shard


@contextmanager
def mesh_of(rank: int, *shape: int) -> Iterator[DeviceMesh]:
    ranks = torch.Size(shape).numel()
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    try:
        yield init_device_mesh("cpu", shape)
    finally:
        dist.destroy_process_group()


def split(whole: torch.Tensor, mesh: DeviceMesh, *placements: object) -> DTensor:
    return distribute_tensor(whole, mesh, list(placements), src_data_rank=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [1, 3, 4, 10])
def test_the_rows_of_all_ranks_are_the_whole_tensor(rows: int) -> None:
    whole = torch.arange(rows * 2.0).reshape(rows, 2)
    parts = []
    for rank in range(4):
        with mesh_of(rank, 4) as mesh:
            part = find_shard("w", split(whole, mesh, ShardPlacement(0)))
        assert isinstance(part, Shard)
        assert part.shape == (rows, 2)
        assert (part.replicas, part.replica) == (1, 0)
        assert torch.equal(part.rows, whole[part.begin : part.end])
        parts.append(part)
    assert torch.equal(torch.cat([part.rows for part in parts]), whole)


def test_every_part_is_written_once_where_groups_of_ranks_hold_the_same_rows() -> None:
    written = []
    for rank in range(4):
        with mesh_of(rank, 2, 2) as mesh:
            names = {f"w{i}": split(torch.ones(3, i), mesh, Replicate(), ShardPlacement(0)) for i in range(1, 6)}
            view = StateView({}, {}, shards={n: find_shard(n, t) for n, t in names.items()})  # type: ignore[misc]
        own = view.list_written(rank, 4)
        assert own, "the ranks share the work"
        written += [(name, view.shards[name].begin, len(rows)) for name, rows in own.items()]
    assert sorted(written) == sorted((f"w{i}", b, n) for i in range(1, 6) for b, n in ((0, 2), (2, 1)))


def test_a_tensor_that_every_rank_holds_whole_is_no_shard() -> None:
    whole = torch.arange(6.0)
    with mesh_of(1, 2) as mesh:
        assert torch.equal(find_shard("w", split(whole, mesh, Replicate())), whole)  # type: ignore[arg-type]
    with mesh_of(0, 1) as mesh:
        assert torch.equal(find_shard("w", split(whole, mesh, ShardPlacement(0))), whole)  # type: ignore[arg-type]
    plain = torch.nn.Parameter(whole)
    found = find_shard("w", plain)
    assert isinstance(found, torch.Tensor)
    assert found.data_ptr() == plain.data_ptr()


def test_other_ways_of_splitting_are_refused_by_name() -> None:
    with mesh_of(0, 2) as mesh, pytest.raises(UnsupportedShardingError, match="wide"):
        find_shard("wide", split(torch.ones(2, 4), mesh, ShardPlacement(1)))
    with mesh_of(0, 2, 2) as mesh, pytest.raises(UnsupportedShardingError, match="2 dimensions"):
        find_shard("twice", split(torch.ones(4, 4), mesh, ShardPlacement(0), ShardPlacement(0)))
