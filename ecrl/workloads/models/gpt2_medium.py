"""GPT-2 medium."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")

PLUGIN = Gpt2(
    task="tokens",
    name="gpt2-medium",
    description="transformers' GPT-2, 24 layers of width 1024, no dropout; 355 million parameters",
    context_length=1024,
    num_layers=24,
    width=1024,
)
