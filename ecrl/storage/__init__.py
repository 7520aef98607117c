"""Atomic files, committed checkpoints and their formats."""
