"""`fsdp2`: every rank holds its rows of each tensor; a block's weights are gathered while it computes."""

import torch
from torch.distributed.device_mesh import init_device_mesh

from ecrl.worker.parallelism import Group, Parallelism
from ecrl.worker.sharding import no_sync, shard_model


def wrap(model: torch.nn.Module, group: Group) -> torch.nn.Module:
    """The model, split over all ranks."""
    # Without a mesh, FSDP2 takes one of the machine's accelerator, whatever the backend (pytorch#132471).
    mesh = init_device_mesh(group.device.type, (group.world_size,), mesh_dim_names=("shard",))
    return shard_model(model, mesh, group)


PLUGIN = Parallelism(
    description="FSDP2: each rank holds a part of every tensor", wrap=wrap, no_sync=no_sync, sharded=True
)
