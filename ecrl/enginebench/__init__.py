"""The bench of checkpoint engines: plan, launch, worker, comparison, report."""
