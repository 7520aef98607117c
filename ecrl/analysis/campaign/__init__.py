"""All runs of a campaign: loading, pooling, tables."""
