"""One attempt of a run on one rank: build, restore, train, and record the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ecrl.config.run import RunSpec
from ecrl.records.clock import now_ns
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.storage.commit import Verdict
from ecrl.worker.build import build, build_engine, seed_generators
from ecrl.worker.injection import build_injector
from ecrl.worker.loop import train
from ecrl.worker.losses import LossReader
from ecrl.worker.rank_info import RankInfo
from ecrl.worker.state import compute_final_digests


def run(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    already_fired: list[int],
    verify: Callable[[Path, int], Verdict],
) -> int:
    """Run one attempt of the run in `paths` on this rank, from the newest checkpoint to the last step.

    Returns the instant at which it ended.

    verify: see `EngineContext`.
    """
    job = build(spec, rank_info, recorder)
    losses = LossReader(job.device, lambda step, value: recorder.event("loss", s=step, loss=value))
    failures = build_injector(spec, paths, rank_info, recorder, already_fired, job.device, losses)
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
    digests: dict[str, Any] = compute_final_digests(job.state.view(spec.train.steps), engine.context.agree)
    recorder.event("final", s=spec.train.steps, **digests)
    dist.destroy_process_group()
    return now_ns()
