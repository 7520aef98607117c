"""Executes campaigns: schedules suites, starts runs as processes, and shows their progress."""
