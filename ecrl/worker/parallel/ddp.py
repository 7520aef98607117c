"""`ddp`: every rank holds the whole model; gradients are averaged while the backward pass goes on."""

import torch
from torch.nn.parallel import DistributedDataParallel

from ecrl.worker.parallelism import Group, Parallelism


def wrap(model: torch.nn.Module, group: Group) -> torch.nn.Module:
    """The model in DistributedDataParallel."""
    # DDP regroups its gradient buckets after the first iteration, and a restart repeats that iteration. The
    # order of summation follows the buckets; it does not matter for two ranks (a + b = b + a) and changes
    # bits for more. Where unused parameters are searched for, DDP never regroups.
    keep_buckets = group.deterministic and group.world_size > 2
    return DistributedDataParallel(
        model,
        device_ids=None if group.device.type == "cpu" else [group.device.index],
        find_unused_parameters=keep_buckets,
        init_sync=False,  # every rank has made the same weights, and a restore loads the same ones
    )


PLUGIN = Parallelism(description="DistributedDataParallel: a whole model on every rank", wrap=wrap)
