"""What a model is: a description and a way to build a fresh one for a number of classes."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import torch


class Model(ABC):
    """One model of the folder `models/`; `name` is its name in a matrix."""

    name: ClassVar[str]
    description: ClassVar[str]

    @abstractmethod
    def build(self, num_classes: int) -> "torch.nn.Module":
        """A new module on the CPU, in training mode: float32 [B, 3, 32, 32] -> logits float32 [B, num_classes].

        Initial weights are drawn from torch's global CPU generator, so seed that first.
        """
