"""A real training run that repeats bit for bit, and its twin that takes blocking copies."""

import itertools
import random
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ecrl.checkpoint.engine import CheckpointableState, Engine, NoCheckpoints
from ecrl.checkpoint.state_view import live_leaves
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import NoFailures
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import TrainingUnderTest, engine_context
from ecrl.selftest.watched import Leaves
from ecrl.worker.build import assemble, build_model, seed_generators
from ecrl.worker.loop import train
from ecrl.workloads.task import Task, TaskSettings, load_task

Optimizer = Literal["sgd", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adamw")
DATASET = "fashion-mini"
_SEED = 1337
# Small enough that no value becomes NaN: it would stay NaN and hide a torn snapshot.
_RATES: dict[Optimizer, float] = {"sgd": 0.01, "adamw": 0.001}


class RandomNumberModel(torch.nn.Module):
    """A model that draws from every random generator before each forward."""

    # A torn generator state is visible only if the generators advance, which a model without dropout does not cause.
    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        super().__init__()
        self._model, self._device = model, device

    def forward(self, *inputs: Any) -> Any:
        random.random()
        np.random.rand()
        torch.rand(())
        if self._device.type != "cpu":
            torch.rand((), device=self._device)
        return self._model(*inputs)


class RealTraining:
    """The production training loop on a real task, from a fixed seed."""

    def __init__(self, task: Task, optimizer: Optimizer, device: torch.device) -> None:
        self.device = device
        self._settings = TrainSettings(steps=1, optimizer=optimizer, lr=_RATES[optimizer], schedule="constant")
        model = build_model(task, _SEED, device)
        self._job = assemble(task, device, model, RandomNumberModel(model, device), self._settings)
        self.state: CheckpointableState = self._job.state

    def train(self, engine: Engine, steps: int) -> None:
        """See `TrainingUnderTest.train`."""
        seed_generators(_SEED, 0)
        train(
            settings=replace(self._settings, steps=steps),
            job=self._job,
            engine=engine,
            failures=NoFailures(),
            begin=0,
            record_step=lambda *_: None,
        )


@dataclass
class ReferenceTraining:
    """The state after each step, from copies that training waits for.

    update_s: the shortest update. step_s: the shortest step without its copy.
    """

    leaves: dict[int, Leaves] = field(default_factory=dict)
    update_s: float = float("inf")
    step_s: float = float("inf")

    @property
    def num_changing(self) -> int:
        """The number of tensors that change in every step. Only in these is every torn copy visible."""
        steps = sorted(self.leaves)
        pairs = list(itertools.pairwise(steps))
        names = self.leaves[steps[0]]
        return sum(all(self.leaves[a][name] != self.leaves[b][name] for a, b in pairs) for name in names)


class _CopiesEachStep(NoCheckpoints):
    """Digests the live state after each update, while the device is idle."""

    twin: ReferenceTraining
    _begun = _updating = 0.0

    def before_forward(self) -> None:
        self._begun = self._now()

    def before_update(self, step: int) -> None:
        self._updating = self._now()

    def synchronize_if_due(self, step: int) -> None:
        ended = self._now()
        self.twin.update_s = min(self.twin.update_s, ended - self._updating)
        self.twin.step_s = min(self.twin.step_s, ended - self._begun)
        self.twin.leaves[step] = live_leaves(self.context.state.view(step))

    def _now(self) -> float:
        if self.context.device.type != "cpu":
            torch.accelerator.synchronize(self.context.device)
        return time.monotonic()


def train_reference(subject: TrainingUnderTest, steps: int) -> ReferenceTraining:
    """Train `subject` for `steps` steps and copy its state after every step."""
    recorder = Recorder(Path("/dev/null"))
    engine = _CopiesEachStep(engine_context(subject, Path("/dev/null"), recorder))
    engine.twin = ReferenceTraining()
    subject.train(engine, steps)
    recorder.close()
    return engine.twin


def load_subject_task(model: str, device: torch.device, batch_size: int) -> Task:
    """The task of every subject."""
    settings = TaskSettings(
        batch_size=batch_size, sequence_length=1, augment=True, seed=_SEED, rank=0, world_size=1, device=device
    )
    return load_task(DATASET, model, settings)
