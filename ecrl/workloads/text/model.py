"""The base class of language models."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from ecrl.workloads.model import Model

if TYPE_CHECKING:
    import torch


class TextModel(Model):
    """A model that predicts the next token. context_length: the longest sequence that it takes."""

    def __init__(self, *, task: str, context_length: int) -> None:
        super().__init__(task=task)
        self.context_length = context_length

    @abstractmethod
    def build(self, vocabulary_size: int) -> "torch.nn.Module":
        """A new module on the CPU, in training mode: int64 [B, T] -> logits float32 [B, T, V], V >= vocabulary_size.

        Initial weights are drawn from torch's global CPU generator, so seed that first.
        """
