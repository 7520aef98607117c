"""What a training run trains: a model, its batches by step, and its loss, as one object."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ecrl import plugins
from ecrl.errors import EcrlError
from ecrl.workloads.dataset import Dataset
from ecrl.workloads.model import Model


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What the batches of one rank depend on beside the data.

    batch_size: samples per rank and step. device: where batches are wanted. data_root: the folder of data sets that
    need one.
    """

    batch_size: int
    augment: bool
    seed: int
    rank: int
    world_size: int
    device: torch.device
    data_root: Path | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One step's input of one rank. ids_digest: eight hex digits of the sample indices, in order."""

    ids_digest: str


class Task(ABC):
    """One kind of training, of a data set and a model that are both made for it.

    Samples are what batches are counted in: an image, a window of tokens. A batch is a pure function of
    (seed, step, rank), so that a resume needs no position; what is random about a sample is drawn from
    (seed, epoch, sample).
    """

    def __init__(self, dataset: Dataset, model: Model, settings: TaskSettings) -> None:
        """Reads the data set.

        Raises:
            DataMissingError: it is not there, or not what it should be.
            ValueError: it has fewer samples than one step of all ranks takes.
        """
        self._dataset, self._model = dataset, model

    @staticmethod
    @abstractmethod
    def make_model(dataset: Dataset, model: Model) -> torch.nn.Module:
        """A new model on the CPU, its weights drawn from torch's generator. Needs no data: it is asked for sizes."""

    def build_model(self) -> torch.nn.Module:
        """A new model, as by `make_model`."""
        return self.make_model(self._dataset, self._model)

    @property
    @abstractmethod
    def num_samples(self) -> int:
        """Samples of the data set."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """This rank's batch of a step, counted from 1, on the device. Never waits for a GPU.

        Raises:
            ValueError: the step is below 1.
        """

    @abstractmethod
    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The mean loss of a batch of this task, to begin the backward pass from. `model`: that of `build_model`,
        perhaps wrapped."""


def load_task(dataset: str, model: str, settings: TaskSettings) -> Task:
    """The task of a data set and a model, by their names, with its data read.

    Raises:
        EcrlError: they are made for different tasks, or one of them does not exist; and as `Task` does.
    """
    return _load_class(dataset, model)(plugins.load("dataset", dataset), plugins.load("model", model), settings)


def make_model(dataset: str, model: str) -> torch.nn.Module:
    """A new model, as `load_task(...).build_model` makes it, without the data.

    Raises:
        EcrlError: as `load_task`.
    """
    return _load_class(dataset, model).make_model(plugins.load("dataset", dataset), plugins.load("model", model))


def _load_class(dataset: str, model: str) -> type[Task]:
    trained, needed = plugins.load("dataset", dataset).task, plugins.load("model", model).task
    if trained != needed:
        raise EcrlError(
            "ECRL-218",
            f"dataset {dataset!r} is for the task {trained!r}, model {model!r} for {needed!r}: expected one task.",
        )
    found: type[Task] = plugins.load("task", trained)
    return found
