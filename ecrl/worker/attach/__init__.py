"""`ecrl.attach`: checkpoints, restores and planned failures in a training loop of the user's."""
