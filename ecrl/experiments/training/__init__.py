"""`training`: torchrun jobs under planned failures, compared by what checkpoints and recovery cost them."""
