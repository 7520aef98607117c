"""The configuration: matrix files, suites and runs."""
