"""A second implementation of the main metrics, in SQL over the files of events (docs/metrics.md, "Counted twice")."""
