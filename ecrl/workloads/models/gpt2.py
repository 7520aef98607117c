"""GPT-2, the smallest published size."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")


class Gpt2Small(Gpt2):
    """See `Gpt2`."""

    name = "gpt2"
    description = "transformers' GPT-2, 12 layers of width 768, no dropout; 124 million parameters"
    num_layers, width = 12, 768


PLUGIN = Gpt2Small(task="tokens", context_length=1024)
