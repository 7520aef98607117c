"""`tokens`: language models that predict the next token, with the cross-entropy loss. A sample is a sequence."""

from typing import cast

import torch
from torch.nn.functional import cross_entropy

from ecrl.workloads.dataset import Dataset
from ecrl.workloads.model import Model
from ecrl.workloads.sampler import StepSampler
from ecrl.workloads.task import Task, TaskSettings
from ecrl.workloads.text.batches import BatchSource, SequenceStore, TokenBatch, make_batch
from ecrl.workloads.text.dataset import TextDataset
from ecrl.workloads.text.model import TextModel


class TokenTask(Task):
    """Cuts the tokens into sequences of equal length. An epoch has each of them once, in an order of its own."""

    def __init__(self, dataset: Dataset, model: Model, settings: TaskSettings) -> None:
        super().__init__(dataset, model, settings)
        sequences = SequenceStore(cast(TextDataset, dataset).load(settings.data_root), settings.sequence_length)
        self._num_samples = len(sequences)
        sampler = StepSampler(self._num_samples, settings.batch_size, settings.rank, settings.world_size, settings.seed)
        self._batches = BatchSource(sequences, sampler, settings.device)

    @staticmethod
    def make_model(dataset: Dataset, model: Model) -> torch.nn.Module:
        return cast(TextModel, model).build(cast(TextDataset, dataset).vocabulary_size)

    @staticmethod
    def make_example(sequence_length: int, /) -> TokenBatch:
        return make_batch(torch.zeros((1, sequence_length + 1), dtype=torch.int64), "")

    @property
    def num_samples(self) -> int:
        return self._num_samples

    def batch(self, step: int) -> TokenBatch:
        return self._batches.batch(step)

    @staticmethod
    def loss(model: torch.nn.Module, batch: TokenBatch) -> torch.Tensor:
        return cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())


PLUGIN = TokenTask
