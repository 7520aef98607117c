"""One rank of a run, inside torchrun."""
