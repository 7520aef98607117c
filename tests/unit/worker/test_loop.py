"""The training loop: micro-batches add up to a step, long gradients are clipped, skipped steps are told."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl.checkpoint.engine import NoCheckpoints
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import NoFailures
from ecrl.records.recorder import Recorder
from ecrl.selftest.drill import engine_context
from ecrl.worker.build import TrainingJob, assemble, build_model
from ecrl.worker.loop import accumulate_gradients, train
from ecrl.workloads.sampler import join_digests
from ecrl.workloads.task import Task, TaskSettings, load_task

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a rank does; small products are slower on more
    yield
    torch.set_num_threads(threads)


def make_task(batch_size: int) -> Task:
    settings = TaskSettings(
        batch_size=batch_size, sequence_length=16, augment=False, seed=1, rank=0, world_size=1, device=CPU
    )
    return load_task("python-source", "gpt2-nano", settings)


@pytest.fixture(scope="module")
def tasks() -> dict[int, Task]:
    return {size: make_task(size) for size in (2, 6)}


def make_job(task: Task, **train: Any) -> TrainingJob:
    model = build_model(task, 7, CPU)
    return assemble(task, CPU, model, model, TrainSettings(steps=2, optimizer="sgd", lr=0.01, **train))


class Losses(NoFailures):
    """Makes the loss of the first micro-batch of a step infinite, as a planned failure would."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at: int | None = at

    def on_loss(self, step: int, loss: torch.Tensor) -> torch.Tensor:
        if step != self._at:
            return loss
        self._at = None
        return loss * math.inf


@dataclasses.dataclass
class Steps:
    job: TrainingJob
    losses: dict[int, float] = dataclasses.field(default_factory=dict)
    ids: dict[int, str] = dataclasses.field(default_factory=dict)
    updated: dict[int, bool] = dataclasses.field(default_factory=dict)

    def run(self, settings: TrainSettings, failures: NoFailures | None = None) -> "Steps":
        recorder = Recorder(Path("/dev/null"))
        engine = make_engine(self.job, recorder)
        train(
            settings=settings, job=self.job, engine=engine, failures=failures or NoFailures(), begin=0,
            record_step=self.record,
        )  # fmt: skip
        recorder.close()
        return self

    def record(self, step: int, _begun: int, loss: torch.Tensor, ids: str, updated: bool) -> None:
        self.losses[step], self.ids[step], self.updated[step] = loss.item(), ids, updated


def make_engine(job: TrainingJob, recorder: Recorder) -> NoCheckpoints:
    return NoCheckpoints(engine_context(job, Path("/dev/null"), recorder))  # type: ignore[arg-type]


def gradient(job: TrainingJob, step: int, num_batches: int) -> tuple[torch.Tensor, float, str]:
    recorder = Recorder(Path("/dev/null"))
    loss, ids = accumulate_gradients(step, num_batches, job, make_engine(job, recorder), NoFailures())
    recorder.close()
    found = torch.cat([p.grad.flatten() for p in job.model.parameters() if p.grad is not None])
    return found, loss.item(), ids


@pytest.mark.parametrize("step", [1, 2])
def test_micro_batches_give_the_gradient_and_the_loss_of_one_batch_of_their_samples(
    tasks: dict[int, Task], step: int
) -> None:
    whole, loss, _ = gradient(make_job(tasks[6]), step, 1)
    parts, mean, _ = gradient(make_job(tasks[2]), step, 3)
    assert ((parts - whole).norm() / whole.norm()).item() < 1e-5
    assert mean == pytest.approx(loss, rel=1e-6)


def test_the_digest_of_ids_tells_micro_batches_and_their_order_apart(tasks: dict[int, Task]) -> None:
    first, second = (tasks[2].batch(number).ids_digest for number in (1, 2))
    assert join_digests([first]) == first
    assert len({first, second, join_digests([first, second]), join_digests([second, first])}) == 4
    assert gradient(make_job(tasks[2]), 1, 2)[2] == join_digests([first, second])


def test_all_micro_batches_but_the_last_leave_communication_to_it(tasks: dict[int, Task]) -> None:
    job, entered = make_job(tasks[2]), []

    def no_sync(model: torch.nn.Module) -> Any:
        entered.append(model)
        return torch.enable_grad()

    watched = dataclasses.replace(job, no_sync=no_sync)
    gradient(watched, 1, 1)
    assert entered == []
    gradient(watched, 1, 3)
    assert entered == [job.model] * 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_longer_gradient_is_scaled_to_the_largest_norm_and_a_shorter_one_is_left(
    tasks: dict[int, Task], precision: str
) -> None:
    def norm(clip: float) -> float:
        job = make_job(tasks[2], momentum=0.0, weight_decay=0.0, precision=precision)
        before = [p.detach().clone() for p in job.model.parameters()]
        settings = TrainSettings(steps=1, lr=1.0, schedule="constant", clip_grad_norm=clip)
        Steps(job).run(settings)
        moved = [old - new.detach() for old, new in zip(before, job.model.parameters(), strict=True)]
        return float(torch.cat([m.flatten() for m in moved]).norm())

    free = norm(0.0)
    assert norm(free / 4) == pytest.approx(free / 4, rel=1e-3)
    assert norm(free * 4) == pytest.approx(free, rel=1e-6)


def test_a_skipped_step_of_fp16_is_told_and_changes_no_weight(tasks: dict[int, Task]) -> None:
    job = make_job(tasks[2], precision="fp16")
    before = [p.detach().clone() for p in job.model.parameters()]
    settings = TrainSettings(steps=1, precision="fp16", accumulate=2, clip_grad_norm=1.0, lr=0.01)
    steps = Steps(job).run(settings, Losses(at=1))
    assert steps.updated == {1: False}
    assert all(map(torch.equal, job.model.parameters(), before))
    assert Steps(job).run(dataclasses.replace(settings, steps=2)).updated == {1: True, 2: True}


def test_without_fp16_every_step_is_taken(tasks: dict[int, Task]) -> None:
    steps = Steps(make_job(tasks[2], precision="bf16")).run(TrainSettings(steps=2, precision="bf16", lr=0.01))
    assert steps.updated == {1: True, 2: True}
    assert all(map(math.isfinite, steps.losses.values()))
