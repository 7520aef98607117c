"""One run: from recorded events to its metrics."""
