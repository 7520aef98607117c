"""The learning rate as a function of the step only. It has no state and needs no restore."""

import math

from ecrl.config.train import TrainSettings


def learning_rate(step: int, train: TrainSettings) -> float:
    """The learning rate of `step` (from 1): linear warm-up to `lr`, then constant, or linear or cosine decay to 0.

    The cosine is that of Loshchilov & Hutter 2017, without restarts.
    """
    if step <= train.warmup_steps:
        return train.lr * step / train.warmup_steps
    progress = (step - train.warmup_steps - 1) / max(1, train.steps - train.warmup_steps)
    match train.schedule:
        case "linear":
            return train.lr * (1 - progress)
        case "cosine":
            return train.lr * 0.5 * (1 + math.cos(math.pi * progress))
    return train.lr
