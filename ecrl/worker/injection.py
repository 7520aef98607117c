"""The planned failures of a run, connected to its records and its device."""

from typing import Any

import torch

from ecrl.config.run import RunSpec
from ecrl.failures.history import RecordedAttemptContext
from ecrl.failures.injector import Injector, PlannedFailure, read_plan
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from ecrl.worker.losses import LossReader
from ecrl.worker.rank_info import RankInfo


def build_injector(
    spec: RunSpec,
    paths: RunPaths,
    rank_info: RankInfo,
    recorder: Recorder,
    already_fired: list[int],
    device: torch.device,
    losses: LossReader,
) -> Injector:
    """The injector of one rank of a run, in this attempt."""

    def announce(failure: PlannedFailure, step: int) -> None:
        lasting: dict[str, Any] = {} if failure.ends_attempt else {"ends_attempt": False}
        recorder.event("failure", index=failure.index, at=step, kind=failure.kind, phase=failure.phase, **lasting)

    def complete() -> None:
        losses.flush()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    attempt_context = RecordedAttemptContext(paths, rank_info.attempt, rank_info.rank)
    plan = read_plan(spec.failures)
    return Injector(plan, rank_info.rank, already_fired, announce, attempt_context, complete=complete)
