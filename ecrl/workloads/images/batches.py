"""The image batches of a training run: on the device, and a pure function of (seed, step, rank)."""

from dataclasses import dataclass

import numpy as np
import torch

from ecrl.workloads.images.augment import Normaliser, crop_and_flip, draw
from ecrl.workloads.images.dataset import ImageData
from ecrl.workloads.sampler import IdArray, StepSampler, digest
from ecrl.workloads.task import Batch


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageBatch(Batch):
    """One step's images of one rank.

    Attributes:
        images: float32 [B, 3, 32, 32], normalised, on the device.
        labels: int64 [B], on the device.
    """

    images: torch.Tensor
    labels: torch.Tensor


class BatchSource:
    """Keeps the whole data set on the device and gathers each step's batch from it. Has no position."""

    def __init__(self, data: ImageData, sampler: StepSampler, device: torch.device, augment: bool, seed: int) -> None:
        """seed: for the augmentation only; the sampler has its own.

        Raises:
            ValueError: the sampler was created for another number of samples.
        """
        if sampler.num_samples != len(data.images):
            raise ValueError(f"the sampler draws from {sampler.num_samples} samples, the data has {len(data.images)}")
        self._sampler = sampler
        self._device = device
        self._augment = augment
        self._seed = seed
        self._images = data.images.to(device)
        self._labels = data.labels.to(device)
        self._normalise = Normaliser(data.mean, data.std, device)

    def batch(self, step: int) -> ImageBatch:
        """The batch of `step` (from 1). On a GPU it only enqueues work and never waits.

        Raises:
            ValueError: the step is below 1.
        """
        ids = self._sampler.ids(step)
        on_device = self._to_device(self._plan(step, ids))
        images = self._images[on_device[0]]
        if self._augment:
            images = crop_and_flip(images, on_device[1], on_device[2], on_device[3])
        labels = self._labels[on_device[0]]
        return ImageBatch(images=self._normalise(images), labels=labels, ids_digest=digest(ids))

    def _plan(self, step: int, ids: IdArray) -> torch.Tensor:
        """int64 [1 or 4, B]: the sample indices and, with augmentation, the draws."""
        # One tensor for all of them, so a step needs only one copy to the device.
        if not self._augment:
            return torch.from_numpy(ids[None])
        draws = draw(self._seed, self._sampler.epoch(step), ids)
        return torch.from_numpy(np.stack([ids, draws.shift_y, draws.shift_x, draws.flip]))

    def _to_device(self, plan: torch.Tensor) -> torch.Tensor:
        if self._device.type != "cuda":
            return plan.to(self._device)
        # torch's pinned-memory allocator does not reuse this block before the copy on this stream has run.
        return plan.pin_memory().to(self._device, non_blocking=True)
