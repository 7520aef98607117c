"""ecrl's own checkpoints: snapshots, shards, commits."""
