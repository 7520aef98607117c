"""GPT-2 large."""

from ecrl.workloads.text.gpt2 import Gpt2

EXTRA = ("transformers", "transformers")


class Gpt2Large(Gpt2):
    """See `Gpt2`."""

    name = "gpt2-large"
    description = "transformers' GPT-2, 36 layers of width 1280, no dropout; 774 million parameters"
    num_layers, width = 36, 1280


PLUGIN = Gpt2Large(task="tokens", context_length=1024)
