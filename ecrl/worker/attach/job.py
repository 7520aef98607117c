"""A user's training loop as ecrl sees it: steps that begin and end."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ecrl.checkpoint.engine import Engine
from ecrl.errors import EcrlError
from ecrl.failures.injector import Injector
from ecrl.records.clock import now_ns
from ecrl.worker.attach.interval import Interval
from ecrl.worker.attach.state import AttachedState
from ecrl.worker.attach.world import World
from ecrl.worker.losses import LossReader

_LEAVE_S = 600.0  # for the other ranks to end after rank 0; the launcher ends a job whose rank died


class Job:
    """What `ecrl.attach` returns: `for step in job` yields the steps that are still to be done, from 1.

    A loop that cannot be written so calls `start` before its first step, `end_step` after every step, and `end` after
    the last one. steps: how many a whole training makes. step: how many are done. has_records: the records are kept, so
    they get the digests of the final state.
    """

    def __init__(
        self,
        *,
        steps: int,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        state: AttachedState,
        engine: Engine,
        interval: Interval,
        failures: Injector,
        losses: LossReader,
        world: World,
        has_records: bool,
    ) -> None:
        self.steps, self.step = steps, 0
        self._model, self._optimizers, self._state = model, optimizers, state
        self._engine, self._interval, self._failures, self._losses = engine, interval, failures, losses
        self._world, self._recorder, self._has_records = world, engine.context.recorder, has_records
        self._loss: torch.Tensor | float | None = None
        self._begun: int | None = None  # when the step in progress began; None before `start`
        self._must_refit = False
        self.is_open = True
        self.ended_ns: int | None = None
        """when the loop ended, on the clock of the records; None before that"""

    def __iter__(self) -> Iterator[int]:
        self.start()
        return self._iterate()

    def _iterate(self) -> Iterator[int]:
        # Iterators that were created since the restore may have drawn numbers; those of the whole run drew none here.
        self._state.reset_generators()
        self._begun = now_ns()
        while self.step < self.steps:
            yield self.step + 1
            self.end_step()
        self.end()

    def start(self) -> int:
        """Restore the newest checkpoint. Returns the number of steps that are done. A second call changes nothing."""
        if self._begun is None:
            self._engine.prepare()
            self._failures.on_phase("init", 0)
            self._recorder.event("ready")
            self.step = self._engine.restore().step
            self._interval.begin(self.step)
            # Most optimizers make their state at their first step, a restore before it.
            self._must_refit = self.step == 0
            if not self._must_refit:
                self._engine.refit()
            self._hooks = [one.register_step_pre_hook(self._protect_copy) for one in self._optimizers]
            self._begun = now_ns()
        return self.step

    def log(self, *, loss: torch.Tensor | float) -> None:
        """Record the loss of the step in progress. Does not wait for the device."""
        self._loss = loss

    def end_step(self) -> None:
        """Count a step that is complete, with everything that belongs to it, and take its checkpoint if it is due."""
        if self._begun is None or self.step >= self.steps:
            found = "before `start`" if self._begun is None else f"after the last step ({self.steps})"
            raise EcrlError("ECRL-650", f"end_step was called {found}, expected {self.steps} steps after `start`.")
        self.step += 1
        self._failures.on_update(self.step, self._model, self._optimizers[0])
        self._engine.synchronize_if_due(self.step)
        self._recorder.event("step", s=self.step, t0=self._begun, loss=self._read_loss())
        if self._must_refit:
            self._engine.refit()
            self._must_refit = False
        if self._interval.is_due(self.step):
            self._save()
        self._failures.after_step(self.step)
        self._begun = now_ns()

    def _read_loss(self) -> float | None:
        loss, self._loss = self._loss, None
        if isinstance(loss, torch.Tensor):
            return self._losses.read(self.step, loss)
        return None if loss is None else float(loss)

    def _save(self) -> None:
        self._state.check_unchanged()
        self._engine.save(self.step)
        self._interval.note_save(self.step)
        # What a loop changes outside of the optimizers (buffers, averages) may change from here on.
        self._engine.before_forward()

    def _protect_copy(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._failures.on_gradients(self.step + 1, self._model)
        self._engine.before_update(self.step + 1)

    def end(self) -> None:
        """Close the job after its last step, and record the final state."""
        if self.step < self.steps:
            raise EcrlError(
                "ECRL-657",
                f"the loop ended after step {self.step}, expected {self.steps} steps (`steps` of ecrl.attach).\n"
                "To stop before, call job.close().",
            )
        if self._interval.wants_last(self.step):
            self._save()
        self._drain()
        if self._has_records:
            digests: dict[str, Any] = self._state.compute_digests(
                self._state.view(self.step), self._engine.context.agree
            )
            self._recorder.event("final", s=self.step, **digests)
        self._leave()
        self.ended_ns = now_ns()

    def close(self) -> None:
        """Wait until every checkpoint is durable. A later job may go on from there. All ranks close together."""
        if self.is_open and self._begun is not None:
            self._drain()
        if self.is_open:
            self._leave()

    def _drain(self) -> None:
        self._engine.drain()
        self._losses.flush()
        for hook in self._hooks:
            hook.remove()

    def _leave(self) -> None:
        self._world.leave(_LEAVE_S)
        self.is_open = False
