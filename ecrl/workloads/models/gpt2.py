"""GPT-2, the smallest published size."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")

PLUGIN = Gpt2(
    task="tokens",
    name="gpt2",
    description="transformers' GPT-2, 12 layers of width 768, no dropout; 124 million parameters",
    context_length=1024,
    num_layers=12,
    width=768,
)
