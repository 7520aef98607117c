"""What the parallelisms of FSDP2 share: splitting a model over the ranks, block by block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from ecrl.worker.parallelism import Group


def shard_model(model: torch.nn.Module, mesh: DeviceMesh, group: Group) -> torch.nn.Module:
    """Split the parameters of each block and then of the rest over the mesh, in place, and return the model."""
    for part in (*_find_blocks(model), model):
        fully_shard(part, mesh=mesh, mp_policy=_choose_policy(part, group.compute_dtype))
    if dist.get_backend(mesh.get_group(0)) != "nccl":
        for module in _list_sharded(model):
            # Some versions of gloo's reduce-scatter ignore that gradients are to be averaged (pytorch#162338).
            module.set_force_sum_reduction_for_comms(True)
    return model


@contextmanager
def no_sync(model: torch.nn.Module) -> Iterator[None]:
    """Let backward passes add up whole gradients on each rank, without communication."""
    # What `set_requires_gradient_sync` does to nested modules, it does to this one's, too.
    [root, *_] = _list_sharded(model)
    root.set_requires_gradient_sync(False)
    yield
    root.set_requires_gradient_sync(True)


def _choose_policy(part: torch.nn.Module, dtype: torch.dtype | None) -> MixedPrecisionPolicy:
    """How FSDP2 gathers a block's weights. Gradients are reduced in fp32."""
    # Autocast alone would convert gathered weights and keep the copies until the backward pass: a whole model a rank.
    # Weights that are gathered in the short type need no copy, are freed between the passes, and are half the traffic.
    # A BatchNorm's must have the type of its running statistics, so such blocks are left to autocast.
    has_statistics = any(buffer.is_floating_point() for buffer in part.buffers())
    if dtype is None or has_statistics:
        return MixedPrecisionPolicy()
    # Autocast, which is on inside the blocks as well, decides on the type of every operation and its inputs.
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)


def _list_sharded(model: torch.nn.Module) -> list[FSDPModule]:
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _find_blocks(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The members of the outermost lists and sequences of modules that have parameters of their own."""
    for child in module.children():
        if not isinstance(child, torch.nn.ModuleList | torch.nn.Sequential):
            yield from _find_blocks(child)
            continue
        for member in child:
            if isinstance(member, torch.nn.ModuleList | torch.nn.Sequential) and _has_list(member):
                yield from _find_blocks(member)
            elif any(True for _ in member.parameters()):
                yield member


def _has_list(module: torch.nn.Module) -> bool:
    return any(isinstance(child, torch.nn.ModuleList | torch.nn.Sequential) for child in module.children())
