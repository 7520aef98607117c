"""Budgets of the orchestrator, measured: `python -m bench`."""
