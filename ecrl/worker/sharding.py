"""What the parallelisms of FSDP2 share: splitting a model over the ranks, block by block."""

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard_model(model: torch.nn.Module, mesh: DeviceMesh) -> torch.nn.Module:
    """Split the parameters of each block and then of the rest over the mesh, in place, and return the model."""
    for block in _find_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    if dist.get_backend(mesh.get_group(0)) != "nccl":
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # Some versions of gloo's reduce-scatter ignore that gradients are to be averaged (pytorch#162338).
                module.set_force_sum_reduction_for_comms(True)
    return model


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
