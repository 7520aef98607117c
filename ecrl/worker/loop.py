"""The training loop: data, forward, backward and update, with checkpoints and planned failures."""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch.nn.utils import clip_grad_norm_

from ecrl.checkpoint.engine import Engine
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import Injector
from ecrl.records.clock import now_ns
from ecrl.worker.build import TrainingJob
from ecrl.worker.lr_schedule import learning_rate
from ecrl.workloads.sampler import join_digests

# (step, begun_ns, loss, ids_digest, updated). updated: whether the weights changed; False for a skipped step of fp16
StepRecord = Callable[[int, int, torch.Tensor, str, bool], None]


def train(
    *,
    settings: TrainSettings,
    job: TrainingJob,
    engine: Engine,
    failures: Injector,
    begin: int,
    record_step: StepRecord,
) -> None:
    """Train from step `begin` + 1 to the last step, then drain the engine."""
    for step in range(begin + 1, settings.steps + 1):
        begun = now_ns()
        loss, ids_digest = accumulate_gradients(step, settings.accumulate, job, engine, failures)
        failures.on_gradients(step, job.model)
        if settings.clip_grad_norm:
            job.scaler.unscale_gradients()
            clip_grad_norm_(job.model.parameters(), settings.clip_grad_norm)
        for group in job.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        engine.before_update(step)
        updated = job.scaler.update_weights()
        failures.on_update(step, job.model, job.optimizer)
        engine.synchronize_if_due(step)
        record_step(step, begun, loss, ids_digest, updated)
        if engine.is_due(step):
            engine.save(step)
        failures.after_step(step)
    engine.drain()


def accumulate_gradients(
    step: int, num_batches: int, job: TrainingJob, engine: Engine, failures: Injector
) -> tuple[torch.Tensor, str]:
    """Compute the gradient of a step's mean loss from `num_batches` micro-batches, averaged over the ranks.

    Returns the loss, and the digest of the sample ids.
    """
    losses, digests = [], []
    job.optimizer.zero_grad(set_to_none=True)
    for number in range(1, num_batches + 1):
        batch = job.task.batch((step - 1) * num_batches + number)
        engine.before_forward()
        with nullcontext() if number == num_batches else job.no_sync(job.model):
            loss = failures.on_loss(step, job.forward(batch)) / num_batches
            torch.autograd.backward(job.scaler.scale(loss))
        losses.append(loss.detach())
        digests.append(batch.ids_digest)
    return sum(losses[1:], losses[0]), join_digests(digests)
