"""`hsdp`: groups of `shard_ranks` ranks split the model as `fsdp2` does; each group holds the whole of it."""

import torch
from torch.distributed.device_mesh import init_device_mesh

from ecrl.worker.parallelism import Group, Parallelism
from ecrl.worker.sharding import no_sync, shard_model


def wrap(model: torch.nn.Module, group: Group) -> torch.nn.Module:
    """The model, split over the ranks of each group and repeated in the groups."""
    shape = (group.world_size // group.shard_ranks, group.shard_ranks)
    mesh = init_device_mesh(group.device.type, shape, mesh_dim_names=("replicate", "shard"))
    return shard_model(model, mesh, group)


PLUGIN = Parallelism(
    description="FSDP2 in groups of shard_ranks ranks, each of which holds the whole model",
    wrap=wrap,
    no_sync=no_sync,
    sharded=True,
    takes_shard_ranks=True,
)
