"""The base class of models of images."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from ecrl.workloads.model import Model

if TYPE_CHECKING:
    import torch


class ImageModel(Model):
    """A classifier of 32x32 images."""

    @abstractmethod
    def build(self, num_classes: int) -> "torch.nn.Module":
        """A new module on the CPU, in training mode: float32 [B, 3, 32, 32] -> logits float32 [B, num_classes].

        Initial weights are drawn from torch's global CPU generator, so seed that first.
        """
