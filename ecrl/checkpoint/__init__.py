"""Checkpoint engines and what they share."""
