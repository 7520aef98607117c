"""Paired comparisons, rates and associations."""
