"""Checkpoint intervals, from what checkpoints and restarts cost."""
