"""Builds what `run.json` asks for, restores, trains, and records the end."""

import gc
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ecrl import plugins
from ecrl.checkpoint.engine import Engine, EngineContext, NoCheckpoints
from ecrl.config.run import RunSpec
from ecrl.failures.history import RecordedAttemptContext
from ecrl.failures.injector import Injector, PlannedFailure, read_plan
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.storage.commit import Verdict
from ecrl.worker.loop import train
from ecrl.worker.losses import LossReader
from ecrl.worker.process_group import new_agreement, start_group
from ecrl.worker.rank_info import RankInfo
from ecrl.worker.state import TrainState, make_optimizer
from ecrl.workloads.dataset import ImageData
from ecrl.workloads.images.batches import BatchSource
from ecrl.workloads.sampler import StepSampler


@dataclass(frozen=True)
class TrainingJob:
    """What is trained, on which device. `parallel` is the model in DDP; `state` sees the model and the optimizer."""

    data: ImageData
    device: torch.device
    optimizer: torch.optim.Optimizer
    parallel: DistributedDataParallel
    state: TrainState


def run(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    already_fired: list[int],
    verify: Callable[[int], Verdict],
) -> None:
    """Take this rank through one attempt of the run in `paths`, from the newest checkpoint to the last step.

    verify: see `EngineContext`.
    """

    def announce(failure: PlannedFailure, step: int) -> None:
        recorder.event("failure", index=failure.index, at=step, kind=failure.kind, phase=failure.phase)

    job = build(spec, rank_info, recorder)
    losses = LossReader(job.device, lambda step, value: recorder.event("loss", s=step, loss=value))

    def complete() -> None:
        losses.flush()
        if job.device.type != "cpu":
            torch.accelerator.synchronize(job.device)

    attempt_context = RecordedAttemptContext(paths, rank_info.attempt, rank_info.rank)
    plan = read_plan(spec.failures)
    injector = Injector(plan, rank_info.rank, already_fired, announce, attempt_context, complete=complete)
    engine = make_engine(spec, paths, rank_info, recorder, job, reached=injector.on_phase, verify=verify)
    engine.prepare()
    seed_generators(spec.seed, rank_info.rank)
    injector.on_phase("init", 0)
    recorder.event("ready")
    restored = engine.restore()

    def record_step(step: int, begun: int, loss: torch.Tensor, ids_digest: str) -> None:
        recorder.event("step", s=step, t0=begun, loss=losses.read(step, loss), ids=ids_digest)

    sampler = StepSampler(len(job.data.images), spec.train.batch_size, rank_info.rank, rank_info.world_size, spec.seed)
    train(
        settings=spec.train,
        model=job.parallel,
        optimizer=job.optimizer,
        batches=BatchSource(job.data, sampler, job.device, spec.train.augment, spec.seed),
        engine=engine,
        begin=restored.step,
        record_step=record_step,
        after_step=injector.after_step,
    )
    losses.flush()
    digests: dict[str, Any] = job.state.final_digests(spec.train.steps)
    recorder.event("final", s=spec.train.steps, **digests)
    dist.destroy_process_group()


def build(spec: RunSpec, rank_info: RankInfo, recorder: Recorder) -> TrainingJob:
    """Make model, optimizer and data, and start the process group. `imported` is recorded in between."""
    device = take_device(spec, rank_info)
    _make_deterministic(spec)
    data = _load_data(spec)
    model = _model(spec, data).to(device)
    optimizer = make_optimizer(model, spec.train)  # torch.optim imports a second's worth at its first use
    recorder.event("imported")
    gc.freeze()  # what is there stays: no collection needs to look at it again
    gc.enable()
    start_group(rank_info, spec.train.get_backend(device.type))
    recorder.event("group")
    return TrainingJob(
        data, device, optimizer, _parallel(model, spec, rank_info, device), TrainState(model, optimizer, device)
    )


def take_device(spec: RunSpec, rank_info: RankInfo) -> torch.device:
    """Make the rank's device the current one, and return it."""
    if spec.device == "cpu":
        torch.set_num_threads(spec.train.threads)
        return torch.device("cpu")
    shared = spec.train.get_backend("cuda") == "gloo"
    # NCCL refuses a second rank on a device: there a rank without one of its own fails here, by its number.
    index = rank_info.local_rank % max(torch.cuda.device_count(), 1) if shared else rank_info.local_rank
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _make_deterministic(spec: RunSpec) -> None:
    if spec.train.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False


def _load_data(spec: RunSpec) -> ImageData:
    dataset = plugins.load("dataset", spec.dataset)
    data: ImageData = dataset.load(None if spec.data_root is None else Path(spec.data_root))
    return data


def _model(spec: RunSpec, data: ImageData) -> torch.nn.Module:
    torch.manual_seed(spec.seed)  # the same weights on every rank and in every attempt and variant
    model: torch.nn.Module = plugins.load("model", spec.model).build(data.num_classes)
    return model


def _parallel(
    model: torch.nn.Module, spec: RunSpec, rank_info: RankInfo, device: torch.device
) -> DistributedDataParallel:
    # DDP regroups its gradient buckets after the first iteration, and a restart repeats that iteration. The
    # order of summation follows the buckets; it does not matter for two ranks (a + b = b + a) and changes
    # bits for more. Where unused parameters are searched for, DDP never regroups.
    keep_buckets = spec.train.deterministic and rank_info.world_size > 2
    return DistributedDataParallel(
        model,
        device_ids=None if device.type == "cpu" else [device.index],
        find_unused_parameters=keep_buckets,
        init_sync=False,  # every rank has made the same weights, and a restore loads the same ones
    )


def make_engine(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    job: TrainingJob,
    **hooks: Any,
) -> Engine:
    """The engine that the spec's variant names; `NoCheckpoints` for `reference`. hooks: `reached` and
    `verify` of `EngineContext`."""
    agreements = iter(range(10**9))  # every rank asks for the same agreements in the same order
    context = EngineContext(
        state=job.state,
        device=job.device,
        root=paths.checkpoints,
        run_hash=spec.hash,
        rank=rank_info.rank,
        world_size=rank_info.world_size,
        attempt=rank_info.attempt,
        checkpoint_every=spec.checkpoint_every,
        max_inflight=spec.max_inflight,
        keep=spec.checkpoint.keep,
        recorder=recorder,
        agree=lambda: new_agreement(rank_info, str(next(agreements)), spec.checkpoint.commit_timeout_s),
        **hooks,
    )
    if spec.engine is None:
        return NoCheckpoints(context)
    engine: Engine = plugins.load("engine", spec.engine).make(context)
    return engine


def seed_generators(seed: int, rank: int) -> None:
    """Give each rank generators of its own, after everything that must be equal on all ranks was drawn."""
    own = (seed * 1_000_003 + rank) % 2**63
    random.seed(own)
    np.random.seed(own % 2**32)
    torch.manual_seed(own)
