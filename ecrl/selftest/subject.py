"""A real training run, repeated bit for bit as often as asked, and its twin that takes blocking copies."""

import itertools
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ecrl import plugins
from ecrl.checkpoint.engine import Engine, NoCheckpoints
from ecrl.checkpoint.state_view import live_leaves
from ecrl.config.train import TrainSettings
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import TrainingUnderTest, engine_context
from ecrl.selftest.watched import Leaves
from ecrl.worker.loop import train
from ecrl.worker.run import seed_generators
from ecrl.worker.state import TrainState, make_optimizer
from ecrl.workloads.dataset import ImageData
from ecrl.workloads.images.batches import BatchSource
from ecrl.workloads.sampler import StepSampler

Optimizer = Literal["sgd", "adamw"]
OPTIMIZERS: tuple[Optimizer, ...] = ("sgd", "adamw")
DATASET = "fashion-mini"
_SEED = 1337
# Small enough that nothing becomes NaN: it would stay NaN, and hide a tear.
_RATES: dict[Optimizer, float] = {"sgd": 0.01, "adamw": 0.001}


class RandomNumberModel(torch.nn.Module):
    """Draws from every random generator before each forward: a model without dropout would leave them alone,
    and a generator that never moves cannot be seen torn."""

    def __init__(self, model: torch.nn.Module, device: torch.device) -> None:
        super().__init__()
        self._model, self._device = model, device

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        random.random()
        np.random.rand()
        torch.rand(())
        if self._device.type != "cpu":
            torch.rand((), device=self._device)
        logits: torch.Tensor = self._model(images)
        return logits


class RealTraining:
    """The production loop over a model of the registry and real images, from a fixed seed."""

    def __init__(
        self, model: str, optimizer: Optimizer, device: torch.device, data: ImageData, batch_size: int
    ) -> None:
        self.device = device
        self._settings = TrainSettings(
            steps=1, batch_size=batch_size, optimizer=optimizer, lr=_RATES[optimizer], schedule="constant"
        )
        torch.manual_seed(_SEED)
        built: torch.nn.Module = plugins.load("model", model).build(data.num_classes).to(device)
        self._optimizer = make_optimizer(built, self._settings)
        self._model = RandomNumberModel(built, device)
        self.state = TrainState(built, self._optimizer, device)
        self._batches = BatchSource(data, StepSampler(len(data.images), batch_size, 0, 1, _SEED), device, True, _SEED)

    def train(self, engine: Engine, steps: int) -> None:
        """See `TrainingUnderTest.train`."""
        seed_generators(_SEED, 0)
        train(
            settings=TrainSettings(
                steps=steps,
                batch_size=self._settings.batch_size,
                optimizer=self._settings.optimizer,
                lr=self._settings.lr,
                schedule="constant",
            ),
            model=self._model,
            optimizer=self._optimizer,
            batches=self._batches,
            engine=engine,
            begin=0,
            record_step=lambda *_: None,
            after_step=lambda _: None,
        )


@dataclass
class ReferenceTraining:
    """What the state is after each step, by copies that training waits for. update_s, step_s: the shortest
    update, and step without its copy."""

    leaves: dict[int, Leaves] = field(default_factory=dict)
    update_s: float = float("inf")
    step_s: float = float("inf")

    @property
    def num_changing(self) -> int:
        """Tensors that differ after every two steps in a row: only in those is every tear seen."""
        steps = sorted(self.leaves)
        pairs = list(itertools.pairwise(steps))
        names = self.leaves[steps[0]]
        return sum(all(self.leaves[a][name] != self.leaves[b][name] for a, b in pairs) for name in names)


class _CopiesEachStep(NoCheckpoints):
    """Digests the live state after each update, with the device standing still."""

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
    """Train it, copying after every step."""
    recorder = Recorder(Path("/dev/null"))
    engine = _CopiesEachStep(engine_context(subject, Path("/dev/null"), recorder))
    engine.twin = ReferenceTraining()
    subject.train(engine, steps)
    recorder.close()
    return engine.twin


def load_data() -> ImageData:
    """The images that every subject is trained on."""
    data: ImageData = plugins.load("dataset", DATASET).load(None)
    return data
