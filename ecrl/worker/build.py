"""Build the training job of one rank from a `run.json`. Runs, engine benches and the selftest use this module."""

import gc
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimizer or DDP would import it: one second, which must count as import time

from ecrl import plugins
from ecrl.checkpoint.engine import Engine, EngineContext, EnginePlugin, NoCheckpoints
from ecrl.config.run import RunSpec
from ecrl.config.train import TrainSettings
from ecrl.records.paths import RunPaths
from ecrl.records.places import list_places
from ecrl.records.recorder import Recorder
from ecrl.worker.parallelism import Group, NoSync, Parallelism, sync_nothing
from ecrl.worker.precision import COMPUTE_DTYPES, LossScaler, autocast
from ecrl.worker.process_group import new_agreement, start_group
from ecrl.worker.rank_info import RankInfo
from ecrl.worker.state import TrainState, make_optimizer
from ecrl.workloads.task import Batch, Task, TaskSettings, load_task


@dataclass(frozen=True)
class TrainingJob:
    """The objects of a training run.

    model: the (wrapped) module that the loop calls. state: model, optimizer and scaler. no_sync: see `Parallelism`.
    """

    task: Task
    device: torch.device
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    scaler: LossScaler
    state: TrainState
    precision: str
    no_sync: NoSync

    def forward(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, in the job's precision."""
        with autocast(self.device, self.precision):
            return self.task.loss(self.model, batch)


def build(spec: RunSpec, rank_info: RankInfo, recorder: Recorder) -> TrainingJob:
    """Build task, model and optimizer, and start the process group. Records `imported` and `group`."""
    device = take_device(spec, rank_info)
    _make_deterministic(spec)
    task = load_task(spec.dataset, spec.model, _read_task_settings(spec, rank_info, device))
    model = build_model(task, spec.seed, device)
    parallelism: Parallelism = plugins.load("parallelism", spec.train.parallel)
    recorder.event("imported")
    gc.freeze()  # the existing objects stay for good: collections can skip them
    gc.enable()
    start_group(rank_info, spec.train.get_backend(device.type))
    recorder.event("group")
    group = Group(
        device=device,
        world_size=rank_info.world_size,
        deterministic=spec.train.deterministic,
        shard_ranks=spec.train.shard_ranks,
        compute_dtype=COMPUTE_DTYPES[spec.train.precision],
    )
    return assemble(task, device, model, parallelism.wrap(model, group), spec.train, parallelism.no_sync)


def build_model(task: Task, seed: int, device: torch.device) -> torch.nn.Module:
    """The task's model with the weights of `seed`: the same on every rank and in every attempt and variant."""
    torch.manual_seed(seed)
    return task.build_model().to(device)


def assemble(
    task: Task,
    device: torch.device,
    model: torch.nn.Module,
    wrapped: torch.nn.Module,
    train: TrainSettings,
    no_sync: NoSync = sync_nothing,
) -> TrainingJob:
    """The job of training `model` by calls of `wrapped`, with a new optimizer. no_sync: see `Parallelism`."""
    # Wrapping may replace the model's parameters, so the optimizer is created after it.
    optimizer = make_optimizer(model, train)
    scaler = LossScaler(device, train.precision, optimizer)
    state = TrainState(model, optimizer, device, scaler.tensors)
    return TrainingJob(task, device, wrapped, optimizer, scaler, state, train.precision, no_sync)


def build_engine(
    spec: RunSpec, paths: RunPaths, rank_info: RankInfo, recorder: Recorder, job: TrainingJob, **hooks: Any
) -> Engine:
    """The engine of the spec's variant; `NoCheckpoints` for `reference`.

    hooks: `reached` and `verify` of `EngineContext`.
    """
    root, *fallbacks = list_places(paths)
    agreements = iter(range(10**9))  # every rank asks for the same agreements in the same order
    context = EngineContext(
        state=job.state,
        device=job.device,
        root=root,
        fallbacks=tuple(fallbacks),
        run_hash=spec.hash,
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        attempt=rank_info.attempt,
        checkpoint_every=spec.checkpoint_every,
        max_inflight=spec.max_inflight,
        keep=spec.checkpoint.keep,
        recorder=recorder,
        agree=lambda: new_agreement(rank_info, str(next(agreements)), spec.checkpoint.commit_timeout_s),
        options=spec.engine_options,
        **hooks,
    )
    if spec.engine is None:
        return NoCheckpoints(context)
    plugin: EnginePlugin = plugins.load("engine", spec.engine)
    return plugin.build(context)


def seed_generators(seed: int, rank: int) -> None:
    """Seed this rank's random generators differently from the other ranks'.

    Call it after everything that must be equal on all ranks was drawn.
    """
    own = (seed * 1_000_003 + rank) % 2**63
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)


def take_device(spec: RunSpec, rank_info: RankInfo) -> torch.device:
    """Select the rank's device, make it the current one and return it."""
    if spec.device == "cpu":
        torch.set_num_threads(spec.train.threads)
        return torch.device("cpu")
    shared = spec.train.get_backend("cuda") == "gloo"
    # NCCL refuses two ranks on one device. With NCCL, a rank without its own device fails here, with its device number.
    index = rank_info.local_rank % max(torch.cuda.device_count(), 1) if shared else rank_info.local_rank
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _make_deterministic(spec: RunSpec) -> None:
    if spec.train.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _read_task_settings(spec: RunSpec, rank_info: RankInfo, device: torch.device) -> TaskSettings:
    return TaskSettings(
        batch_size=spec.train.batch_size,
        sequence_length=spec.train.sequence_length,
        augment=spec.train.augment,
        seed=spec.seed,
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        device=device,
        data_root=None if spec.data_root is None else Path(spec.data_root),
    )
