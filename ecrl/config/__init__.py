"""What is asked for: matrix files, suites and runs."""
