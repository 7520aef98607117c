"""Uniform noise in CIFAR's shape, for timing without files. A model cannot learn from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecrl.workloads.images.dataset import ImageDataset

if TYPE_CHECKING:
    import torch

_NUM_IMAGES = 5_000
_SEED = 20_170_831


class Noise(ImageDataset):
    """Images and labels drawn independently, the same on every call."""

    name = "noise"
    description = "5,000 images of uniform noise with random labels, 10 classes; synthetic"
    num_classes = 10
    # Of the uniform distribution over 0..255, scaled to [0, 1].
    mean = (0.5, 0.5, 0.5)
    std = (0.28980, 0.28980, 0.28980)
    how_to_get = "It is drawn from a fixed seed and needs no files."

    def _find_faults(self, _folder: Path, _md5: Mapping[str, str], /) -> list[str]:
        return []

    def _read(self, _folder: Path, _md5: Mapping[str, str], /) -> "tuple[torch.Tensor, torch.Tensor]":
        import numpy as np
        import torch

        rng = np.random.default_rng(_SEED)
        images = rng.integers(0, 256, (_NUM_IMAGES, 3, 32, 32), dtype=np.uint8)
        labels = rng.integers(0, self.num_classes, _NUM_IMAGES, dtype=np.int64)
        return torch.from_numpy(images), torch.from_numpy(labels)


PLUGIN = Noise(task="images", synthetic=True)
