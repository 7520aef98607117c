"""GPT-2 medium."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")


class Gpt2Medium(Gpt2):
    """See `Gpt2`."""

    name = "gpt2-medium"
    description = "transformers' GPT-2, 24 layers of width 1024, no dropout; 355 million parameters"
    num_layers, width = 24, 1024


PLUGIN = Gpt2Medium(task="tokens", context_length=1024)
