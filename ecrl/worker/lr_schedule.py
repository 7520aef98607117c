"""The learning rate as a function of the step alone, so that it needs no state and no restore."""

import math

from ecrl.config.train import TrainSettings


def learning_rate(step: int, train: TrainSettings) -> float:
    """The rate of step `step` (from 1): linear warm-up to `lr`, then constant, linear or cosine down to 0
    (Loshchilov & Hutter 2017, without restarts)."""
    if step <= train.warmup_steps:
        return train.lr * step / train.warmup_steps
    progress = (step - train.warmup_steps - 1) / max(1, train.steps - train.warmup_steps)
    match train.schedule:
        case "linear":
            return train.lr * (1 - progress)
        case "cosine":
            return train.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return train.lr
