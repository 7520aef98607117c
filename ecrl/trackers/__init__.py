"""Trackers: a campaign's records, fed while they are written into the tool in which people watch their runs."""
