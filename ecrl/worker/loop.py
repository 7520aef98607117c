"""The training loop: data, forward, backward and update, with checkpoints and planned failures."""

from collections.abc import Callable

import torch

from ecrl.checkpoint.engine import Engine
from ecrl.config.train import TrainSettings
from ecrl.failures.injector import Injector
from ecrl.records.clock import now_ns
from ecrl.worker.lr_schedule import learning_rate
from ecrl.workloads.task import Task

# (step, begun_ns, loss, ids_digest)
StepRecord = Callable[[int, int, torch.Tensor, str], None]


def train(
    *,
    settings: TrainSettings,
    task: Task,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    engine: Engine,
    failures: Injector,
    begin: int,
    record_step: StepRecord,
) -> None:
    """Train from step `begin` + 1 to the last step, then drain the engine."""
    for step in range(begin + 1, settings.steps + 1):
        begun = now_ns()
        batch = task.batch(step)
        engine.before_forward()
        loss = failures.on_loss(step, task.loss(model, batch))
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        failures.on_gradients(step, model)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        engine.before_update(step)
        optimizer.step()
        failures.on_update(step, model, optimizer)
        engine.synchronize_if_due(step)
        record_step(step, begun, loss, batch.ids_digest)
        if engine.is_due(step):
            engine.save(step)
        failures.after_step(step)
    engine.drain()
