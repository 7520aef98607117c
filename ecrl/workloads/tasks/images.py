"""`images`: classification of images with the cross-entropy loss."""

from typing import cast

import torch
from torch.nn.functional import cross_entropy

from ecrl.workloads.dataset import Dataset
from ecrl.workloads.images.batches import BatchSource, ImageBatch
from ecrl.workloads.images.dataset import ImageDataset
from ecrl.workloads.images.model import ImageModel
from ecrl.workloads.model import Model
from ecrl.workloads.sampler import StepSampler
from ecrl.workloads.task import Task, TaskSettings


class ImageTask(Task):
    """Keeps the whole data set on the device. Each step gathers, augments and normalises its samples there."""

    def __init__(self, dataset: Dataset, model: Model, settings: TaskSettings) -> None:
        super().__init__(dataset, model, settings)
        data = cast(ImageDataset, dataset).load(settings.data_root)
        self._num_samples = len(data.images)
        sampler = StepSampler(self._num_samples, settings.batch_size, settings.rank, settings.world_size, settings.seed)
        self._batches = BatchSource(data, sampler, settings.device, settings.augment, settings.seed)

    @staticmethod
    def make_model(dataset: Dataset, model: Model) -> torch.nn.Module:
        return cast(ImageModel, model).build(cast(ImageDataset, dataset).num_classes)

    @staticmethod
    def make_example(_sequence_length: int, /) -> ImageBatch:
        return ImageBatch(images=torch.zeros(1, 3, 32, 32), labels=torch.zeros(1, dtype=torch.int64), ids_digest="")

    @property
    def num_samples(self) -> int:
        return self._num_samples

    def batch(self, step: int) -> ImageBatch:
        return self._batches.batch(step)

    @staticmethod
    def loss(model: torch.nn.Module, batch: ImageBatch) -> torch.Tensor:
        return cross_entropy(model(batch.images), batch.labels)


PLUGIN = ImageTask
