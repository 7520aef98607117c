"""The trackers that there are, one file each."""
