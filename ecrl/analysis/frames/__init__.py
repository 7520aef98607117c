"""Records and results as typed pandas frames."""
