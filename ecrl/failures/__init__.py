"""Planned failures: when they strike and how."""
