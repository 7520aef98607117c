"""FSDP2's tensors as this rank's rows of them. Starts no collective."""

from typing import Any

import torch

from ecrl.checkpoint.state_view import Shard


class UnsupportedShardingError(Exception):
    """A tensor is split over the ranks in a way that a checkpoint cannot describe."""


def find_shard(name: str, tensor: torch.Tensor) -> torch.Tensor | Shard:
    """The rows of a DTensor that this rank holds, sharing its memory; the tensor itself if every rank holds it whole.

    Raises:
        UnsupportedShardingError: the tensor is split along another dimension, or over several dimensions of the mesh.
    """
    # Not `isinstance`: the import of torch.distributed.tensor would delay every start of a run that has no DTensor.
    mesh: Any = getattr(tensor, "device_mesh", None)
    if mesh is None:
        return tensor.detach()
    local: torch.Tensor = tensor._local_tensor.detach()  # type: ignore[attr-defined]
    holders, replica, split = 1, 0, []
    for dim, placement in enumerate(tensor.placements):  # type: ignore[attr-defined]
        size, own = mesh.size(dim), mesh.get_local_rank(dim)
        # A subclass of Shard strides over the rows.
        if placement.is_replicate() or (size == 1 and not placement.is_partial()):
            holders, replica = holders * size, replica * size + own
        elif type(placement).__name__ == "Shard" and placement.dim == 0:
            split.append((size, own))
        else:
            raise UnsupportedShardingError(f"{name}: found {placement}, expected Shard(0) or Replicate")
    if not split:
        return local
    if len(split) > 1:
        raise UnsupportedShardingError(f"{name}: split over {len(split)} dimensions of its mesh, expected one")
    [(size, own)] = split
    rows = len(tensor)
    begin = min(rows, own * -(-rows // size))  # as torch.chunk divides them
    return Shard(local, tuple(tensor.shape), begin, holders, replica, tensor)
