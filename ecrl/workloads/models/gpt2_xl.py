"""GPT-2 XL."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")


class Gpt2Xl(Gpt2):
    """See `Gpt2`."""

    name = "gpt2-xl"
    description = "transformers' GPT-2, 48 layers of width 1600, no dropout; 1.56 billion parameters"
    num_layers, width = 48, 1600


PLUGIN = Gpt2Xl(task="tokens", context_length=1024)
