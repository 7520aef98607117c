"""One run: supervision, progress, outcome."""
