"""Threats to the validity of a campaign's results."""
