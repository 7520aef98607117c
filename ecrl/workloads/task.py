"""The base class of tasks. A task is the subject of a training run: a model, its batches by step, and its loss."""

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
    """The settings that, together with the data, determine the batches of one rank.

    batch_size: samples per rank and step. sequence_length: tokens of a sample of text. device: the device of the
    batches. data_root: the folder of the data sets that need one.
    """

    batch_size: int
    sequence_length: int
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
    """One kind of training, with a data set and a model that both belong to this kind.

    A batch consists of samples, such as images or windows of tokens. It is a pure function of (seed, step, rank), so a
    resume needs no position. The random changes of a sample are a function of (seed, epoch, sample).
    """

    def __init__(self, dataset: Dataset, model: Model, settings: TaskSettings) -> None:
        """Read the data set.

        Raises:
            DataMissingError: the data set is missing or damaged.
            ValueError: it has fewer samples than one step of all ranks needs.
        """
        self._dataset, self._model = dataset, model

    @staticmethod
    @abstractmethod
    def make_model(dataset: Dataset, model: Model) -> torch.nn.Module:
        """A new model on the CPU, with weights drawn from torch's generator. Reads no data."""
        # The probe calls it to compute the size of the state.

    @staticmethod
    @abstractmethod
    def make_example(sequence_length: int, /) -> Batch:
        """A batch of one sample of any content, on the CPU. Reads no data."""
        # The probe computes from it what a step keeps for its backward pass.

    def build_model(self) -> torch.nn.Module:
        """A new model, see `make_model`."""
        return self.make_model(self._dataset, self._model)

    @property
    @abstractmethod
    def num_samples(self) -> int:
        """The number of samples in the data set."""

    @abstractmethod
    def batch(self, step: int) -> Batch:
        """This rank's batch of `step` (from 1) on the device. Never waits for a GPU.

        Raises:
            ValueError: the step is below 1.
        """

    @staticmethod
    @abstractmethod
    def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The mean loss of a batch of this task, where the backward pass starts.

        model: the model of `build_model`, possibly wrapped.
        """


def load_task(dataset: str, model: str, settings: TaskSettings) -> Task:
    """The task of a data set and a model, given by name. Reads the data.

    Raises:
        EcrlError: data set and model belong to different tasks, or one of them does not exist.
        DataMissingError, ValueError: see `Task`.
    """
    return load_class(dataset, model)(plugins.load("dataset", dataset), plugins.load("model", model), settings)


def make_model(dataset: str, model: str) -> torch.nn.Module:
    """A new model like that of `load_task(...).build_model`. Reads no data.

    Raises:
        EcrlError: see `load_task`.
    """
    return load_class(dataset, model).make_model(plugins.load("dataset", dataset), plugins.load("model", model))


def load_class(dataset: str, model: str) -> type[Task]:
    """The task of a data set and a model.

    Raises:
        EcrlError: see `load_task`.
    """
    trained, needed = plugins.load("dataset", dataset).task, plugins.load("model", model).task
    if trained != needed:
        raise EcrlError(
            "ECRL-218",
            f"dataset {dataset!r} is for the task {trained!r}, model {model!r} for {needed!r}: expected one task.",
        )
    found: type[Task] = plugins.load("task", trained)
    return found
