"""Read-only views of a campaign."""
