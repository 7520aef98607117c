"""How a model is spread over the ranks: the interface of the files in `parallel/`."""

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, kw_only=True)
class Group:
    """The ranks that train together, as one of them sees it. deterministic: every restart must repeat every bit."""

    device: torch.device
    world_size: int
    deterministic: bool


class Wrap(Protocol):
    """Makes of a new model on its device the one that is trained, which may be the same. Its parameters are those
    that the optimizer is then made for."""

    def __call__(self, model: torch.nn.Module, group: Group, /) -> torch.nn.Module: ...


@dataclass(frozen=True, kw_only=True)
class Parallelism:
    """What a file of `parallel/` exports. The process group is up when `wrap` is called."""

    description: str
    wrap: Wrap
