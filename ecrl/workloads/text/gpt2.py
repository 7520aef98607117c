"""transformers' GPT-2 in its published sizes, with new weights."""

from typing import TYPE_CHECKING

from ecrl.workloads.text.model import TextModel

if TYPE_CHECKING:
    import torch

_HEAD_WIDTH = 64  # of every published size


class Gpt2(TextModel):
    """One size of GPT-2 (Radford et al. 2019). Without dropout: a step depends on the weights and the batch alone.

    The vocabulary is always GPT-2's 50,257, so that the size is the published one; bytes are ids below 256 of it.
    """

    # The sizes are arguments and not classes, so that they are told where transformers is not installed.
    def __init__(
        self, *, task: str, name: str, description: str, context_length: int, num_layers: int, width: int
    ) -> None:
        super().__init__(task=task, context_length=context_length)
        self.name, self.description = name, description
        self.num_layers, self.width = num_layers, width

    def build(self, vocabulary_size: int) -> "torch.nn.Module":
        """See `TextModel.build`.

        Raises:
            ValueError: the vocabulary is larger than GPT-2's.
        """
        from torch import nn
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            n_layer=self.num_layers,
            n_embd=self.width,
            n_head=self.width // _HEAD_WIDTH,
            n_positions=self.context_length,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            use_cache=False,
            attn_implementation="sdpa",
        )
        if vocabulary_size > config.vocab_size:
            raise ValueError(f"a vocabulary of {vocabulary_size}, GPT-2 has {config.vocab_size}")

        class Logits(nn.Module):
            """Gives the logits alone, as every model of the task does."""

            def __init__(self, net: nn.Module) -> None:
                super().__init__()
                self.net = net

            def forward(self, tokens: "torch.Tensor") -> "torch.Tensor":
                logits: torch.Tensor = self.net(tokens).logits
                return logits

        return Logits(GPT2LMHeadModel(config)).train()
