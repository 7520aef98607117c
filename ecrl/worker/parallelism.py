"""The interface of the files in `parallel/`, which distribute a model over the ranks."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch


@dataclass(frozen=True, kw_only=True)
class Group:
    """One rank's view of the group. deterministic: whether every restart must repeat every bit.

    shard_ranks: the setting of that name. compute_dtype: the short type of mixed precision; None: there is none.
    """

    device: torch.device
    world_size: int
    deterministic: bool
    shard_ranks: int = 0
    compute_dtype: torch.dtype | None = None


NoSync: TypeAlias = Callable[[torch.nn.Module], AbstractContextManager[None]]


def sync_nothing(_model: torch.nn.Module) -> AbstractContextManager[None]:
    """The `no_sync` of a model that is not wrapped."""
    return nullcontext()


class Wrap(Protocol):
    """Turns a new model on its device into the model that is trained, which may be the same object.

    The optimizer is then created for the model's parameters.
    """

    def __call__(self, model: torch.nn.Module, group: Group, /) -> torch.nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """The export of a file in `parallel/`. The process group is up when `wrap` is called.

    no_sync: the context of a micro-batch whose gradients wait on each rank for those of a later one of the same step.
    It takes what `wrap` returned.
    sharded: a literal that says whether the ranks hold different parts of the state, so an engine must know of them.
    takes_shard_ranks: a literal that says whether `train.shard_ranks` must be given.
    """

    description: str
    wrap: Wrap
    no_sync: NoSync
    sharded: bool = False
    takes_shard_ranks: bool = False
