"""Text data: token files, batches of sequences, language models."""
