"""One attempt of a run on one rank: build, restore, train, and record the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ecrl.config.run import RunSpec
from ecrl.failures.history import RecordedAttemptContext
from ecrl.failures.injector import Injector, PlannedFailure, read_plan
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.storage.commit import Verdict
from ecrl.worker.build import TrainingJob, build, build_engine, seed_generators
from ecrl.worker.loop import train
from ecrl.worker.losses import LossReader
from ecrl.worker.rank_info import RankInfo


def run(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    already_fired: list[int],
    verify: Callable[[Path, int], Verdict],
) -> None:
    """Run one attempt of the run in `paths` on this rank, from the newest checkpoint to the last step.

    verify: see `EngineContext`.
    """
    job = build(spec, rank_info, recorder)
    losses = LossReader(job.device, lambda step, value: recorder.event("loss", s=step, loss=value))
    failures = _build_injector(spec, paths, rank_info, recorder, already_fired, job, losses)
    engine = build_engine(spec, paths, rank_info, recorder, job, reached=failures.on_phase, verify=verify)
    engine.prepare()
    seed_generators(spec.seed, rank_info.rank)
    failures.on_phase("init", 0)
    recorder.event("ready")
    restored = engine.restore()

    def record_step(step: int, begun: int, loss: torch.Tensor, ids_digest: str, updated: bool) -> None:
        skipped: dict[str, Any] = {} if updated else {"skipped": True}
        recorder.event("step", s=step, t0=begun, loss=losses.read(step, loss), ids=ids_digest, **skipped)

    train(
        settings=spec.train,
        job=job,
        engine=engine,
        failures=failures,
        begin=restored.step,
        record_step=record_step,
    )
    losses.flush()
    digests: dict[str, Any] = job.state.final_digests(spec.train.steps, engine.context.agree)
    recorder.event("final", s=spec.train.steps, **digests)
    dist.destroy_process_group()


def _build_injector(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    already_fired: list[int],
    job: TrainingJob,
    losses: LossReader,
) -> Injector:
    def announce(failure: PlannedFailure, step: int) -> None:
        lasting: dict[str, Any] = {} if failure.ends_attempt else {"ends_attempt": False}
        recorder.event("failure", index=failure.index, at=step, kind=failure.kind, phase=failure.phase, **lasting)

    def complete() -> None:
        losses.flush()
        if job.device.type != "cpu":
            torch.accelerator.synchronize(job.device)

    attempt_context = RecordedAttemptContext(paths, rank_info.attempt, rank_info.rank)
    plan = read_plan(spec.failures)
    return Injector(plan, rank_info.rank, already_fired, announce, attempt_context, complete=complete)
