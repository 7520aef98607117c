"""The training loop: data, forward, backward, update; checkpoints and planned failures at their places."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from ecrl.checkpoint.engine import Engine
from ecrl.config.train import TrainSettings
from ecrl.records.clock import now_ns
from ecrl.worker.lr_schedule import learning_rate
from ecrl.workloads.images.batches import BatchSource

# (step, begun_ns, loss, ids_digest)
StepRecord = Callable[[int, int, torch.Tensor, str], None]


def train(
    *,
    settings: TrainSettings,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: BatchSource,
    engine: Engine,
    begin: int,
    record_step: StepRecord,
    after_step: Callable[[int], None],
) -> None:
    """Train from after step `begin` to the last. after_step: where planned failures strike."""
    for step in range(begin + 1, settings.steps + 1):
        begun = now_ns()
        batch = batches.batch(step)
        engine.before_forward()
        loss = cross_entropy(model(batch.images), batch.labels)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        engine.before_update(step)
        optimizer.step()
        engine.synchronize_if_due(step)
        record_step(step, begun, loss, batch.ids_digest)
        if engine.is_due(step):
            engine.save(step)
        after_step(step)
    engine.drain()
