"""A GPT-2 for one CPU core: the architecture of its large relatives, and no package of its own."""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from ecrl.workloads.text.model import TextModel

_WIDTH, _LAYERS, _HEADS = 128, 4, 4
_INIT_STD = 0.02  # as GPT-2's


class Gpt2Nano(TextModel):
    """No dropout: a step depends on the weights and the batch alone."""

    name = "gpt2-nano"
    description = "GPT-2 with 4 layers of width 128, no dropout; 0.86 million parameters with bytes as tokens"

    def build(self, vocabulary_size: int) -> nn.Module:
        """See `TextModel.build`."""
        return Gpt2NanoModule(vocabulary_size, self.context_length)


class Gpt2NanoModule(nn.Module):
    """Pre-norm decoder. The input embedding is also the output projection, as in GPT-2."""

    def __init__(self, vocabulary_size: int, context_length: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary_size, _WIDTH)
        self.position_embedding = nn.Embedding(context_length, _WIDTH)
        self.blocks = nn.Sequential(*(_Block() for _ in range(_LAYERS)))
        self.norm = nn.LayerNorm(_WIDTH)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1:
                # The projections that add to the residual stream are scaled down by its number of summands.
                std = _INIT_STD / (2 * _LAYERS) ** 0.5 if name.endswith("project.weight") else _INIT_STD
                nn.init.normal_(parameter, std=std)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [B, T] -> logits [B, T, V]."""
        positions = self.position_embedding.weight[: tokens.shape[1]]
        hidden = self.norm(self.blocks(self.token_embedding(tokens) + positions))
        return nn.functional.linear(hidden, self.token_embedding.weight)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(_WIDTH), _Attention()
        self.norm_2, self.mlp = nn.LayerNorm(_WIDTH), _Mlp()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = hidden + self.attention(self.norm_1(hidden))
        mixed: torch.Tensor = hidden + self.mlp(self.norm_2(hidden))
        return mixed


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Linear(_WIDTH, 3 * _WIDTH), nn.Linear(_WIDTH, _WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        heads = self.expand(hidden).unflatten(-1, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)  # [3, B, H, T, D]
        mixed = scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        projected: torch.Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return projected


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.project = nn.Linear(_WIDTH, 4 * _WIDTH), nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self.project(nn.functional.gelu(self.expand(hidden), approximate="tanh"))
        return projected


PLUGIN = Gpt2Nano(task="tokens", context_length=256)
