"""Claims: their verdicts, the noise of equal runs, the power of a design."""
