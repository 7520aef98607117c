"""GPT-2 large."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")

PLUGIN = Gpt2(
    task="tokens",
    name="gpt2-large",
    description="transformers' GPT-2, 36 layers of width 1280, no dropout; 774 million parameters",
    context_length=1024,
    num_layers=36,
    width=1280,
)
