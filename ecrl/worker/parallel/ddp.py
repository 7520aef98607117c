"""`ddp`: every rank holds the whole model; gradients are averaged during the backward pass."""

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch.nn.parallel import DistributedDataParallel

from ecrl.worker.parallelism import Group, Parallelism


def wrap(model: torch.nn.Module, group: Group) -> torch.nn.Module:
    """The model wrapped in DistributedDataParallel."""
    # DDP regroups its gradient buckets after the first iteration, and a restart repeats that iteration. The order of
    # summation follows the buckets: it does not matter for two ranks (a + b = b + a), but changes bits for more. With
    # `find_unused_parameters`, DDP never regroups.
    keep_buckets = group.deterministic and group.world_size > 2
    return DistributedDataParallel(
        model,
        device_ids=None if group.device.type == "cpu" else [group.device.index],
        find_unused_parameters=keep_buckets,
        gradient_as_bucket_view=True,  # else the buckets are a second copy of all gradients
        init_sync=False,  # every rank creates the same weights, and a restore loads the same weights
    )


def no_sync(model: torch.nn.Module) -> AbstractContextManager[None]:
    """Let backward passes add up gradients on each rank, without communication."""
    return cast(DistributedDataParallel, model).no_sync()


PLUGIN = Parallelism(
    description="DistributedDataParallel: a whole model on every rank",
    wrap=wrap,
    no_sync=no_sync,
)
