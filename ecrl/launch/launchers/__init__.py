"""The ways to start a run's processes, one file each."""
