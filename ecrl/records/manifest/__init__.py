"""The state of every suite of a campaign."""
