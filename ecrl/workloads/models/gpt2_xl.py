"""GPT-2 XL."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")

PLUGIN = Gpt2(
    task="tokens",
    name="gpt2-xl",
    description="transformers' GPT-2, 48 layers of width 1600, no dropout; 1.56 billion parameters",
    context_length=1024,
    num_layers=48,
    width=1600,
)
