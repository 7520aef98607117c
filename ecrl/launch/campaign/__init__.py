"""Many runs: requests, selection, scheduling, recovery."""
