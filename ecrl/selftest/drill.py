"""One training run with the production engine, in which parts are delayed and every snapshot is compared."""

import itertools
import shutil
from pathlib import Path
from typing import Protocol

import torch
from torch._C._distributed_c10d import HashStore, PrefixStore

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import CheckpointableState, Engine, EngineContext
from ecrl.checkpoint.state_view import live_leaves
from ecrl.records.recorder import Recorder
from ecrl.selftest.watched import RUN, Leaves, Outcome, StressPlan, find_difference


class TrainingUnderTest(Protocol):
    """A training run from its first step: real, or a stand-in for one."""

    @property
    def device(self) -> torch.device:
        """The device of its state."""

    @property
    def state(self) -> CheckpointableState:
        """Its live state."""

    def train(self, engine: Engine, steps: int) -> None:
        """Train and drain. Calls the engine at the same places as the production loop."""


def run_stress(drill: StressPlan, subject: TrainingUnderTest, expected: dict[int, Leaves], folder: Path) -> Outcome:
    """Run a drill in a new folder. expected: the digests that the snapshot of each step must have."""
    folder.mkdir(parents=True)
    recorder = Recorder(folder / "events-0-0.jsonl")
    context = engine_context(subject, folder, recorder)
    engine = drill.engine(context, drill, expected)
    try:
        engine.prepare()
        try:
            subject.train(engine, drill.steps)
        except BaseException:
            engine.abandon()
            raise
    finally:
        recorder.close()
        shutil.rmtree(folder, ignore_errors=True)
    engine.outcome.diverged = find_difference(live_leaves(subject.state.view(drill.steps)), expected[drill.steps])
    return engine.outcome


def engine_context(
    subject: TrainingUnderTest, folder: Path, recorder: Recorder, checkpoint_every: int = 1
) -> EngineContext:
    """The context of an engine for one rank in this process."""
    store, numbers = HashStore(), itertools.count()
    return EngineContext(
        state=subject.state,
        device=subject.device,
        root=folder / "checkpoints",
        run_hash=RUN,
        rank=0,
        world_size=1,
        attempt=0,
        checkpoint_every=checkpoint_every,
        max_inflight=2,
        keep=2,
        recorder=recorder,
        agree=lambda: Agreement(PrefixStore(str(next(numbers)), store), 0, 1, 60.0),
    )
