"""Metrics, comparisons and claims, computed from what runs recorded."""
