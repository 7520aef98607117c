"""What every checkpoint engine has in common: guards, timing spans and records. Engines fill in the hooks.

The base class measures, so that engines cannot measure themselves differently.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.state_view import StateView
from ecrl.records.clock import now_ns
from ecrl.records.recorder import Recorder
from ecrl.storage.commit import Verdict
from ecrl.storage.formats import OWN_FORMAT


class CheckpointableState(ABC):
    """The live training state, as an engine sees it."""

    @abstractmethod
    def view(self, step: int) -> StateView:
        """Names and tensors aliasing the state after `step`; host state as private copies."""

    @abstractmethod
    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        """Take over host state after the tensors were loaded in place; RNG states last."""


def inject_nothing(phase: str, step: int) -> None:
    """No failure is planned."""


@dataclass(frozen=True)
class EngineContext:
    """What an engine is given. `agree` makes a new agreement on a store connection of its own.

    reached(phase, step): to be called from inside each phase of the checkpoint of `step` that an engine has,
    from whichever thread; a planned failure may strike there. The phases: staging (the copy has begun),
    persist (part of this rank's bytes are written), commit (everything is durable, nothing published),
    retention (an old checkpoint is withdrawn, its files are still there), restore (half of the state is loaded).

    verify(step): `storage.commit.verify` for this run, where it was begun before there was a context.

    options: of the engine, as its `EnginePlugin` declares them; all of them in what `EnginePlugin.build` hands on.
    """

    state: CheckpointableState
    device: torch.device
    root: Path
    run_hash: str
    rank: int
    world_size: int
    attempt: int
    checkpoint_every: int
    max_inflight: int
    keep: int
    recorder: Recorder
    agree: Callable[[], Agreement]
    reached: Callable[[str, int], None] = inject_nothing
    verify: Callable[[int], Verdict] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoreResult:
    """What a restore came to. step 0: no checkpoint, training begins afresh.

    Digests are of this rank's whole state: as recorded when the snapshot was written, and as live now.
    """

    step: int
    digest_recorded: str | None = None
    digest_live: str | None = None
    passed_over: tuple[dict[str, Any], ...] = ()


class Engine(ABC):
    """One way of checkpointing. Subclasses export an `EnginePlugin` and implement the underscored hooks."""

    def __init__(self, context: EngineContext) -> None:
        self.context = context

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is taken after `step`."""
        return step % self.context.checkpoint_every == 0

    def prepare(self) -> None:
        """Allocate everything before the first step, so that the first checkpoint costs what the others do."""
        self._prepare()

    def restore(self) -> RestoreResult:
        """Load the newest checkpoint that verifies on every rank into the live state, and record it."""
        begun = now_ns()
        restored = self._restore()
        self.context.reached("restore", restored.step)  # where an engine has no such point, or nothing to load
        self.context.recorder.event(
            "restored",
            t0=begun,
            step=restored.step,
            digest_recorded=restored.digest_recorded,
            digest_live=restored.digest_live,
            passed_over=restored.passed_over,
        )
        return restored

    def before_forward(self) -> None:
        """To be called before each forward: buffers are about to change."""

    def before_update(self, step: int) -> None:
        """To be called before each `optimizer.step`: parameters and optimizer state are about to change."""

    def synchronize_if_due(self, step: int) -> None:
        """To be called at the end of a step: where a synchronous engine is due, wait for the device now, so
        that queued kernels are billed to the step and not to the snapshot."""

    def save(self, step: int) -> None:
        """Take the checkpoint of `step`; returns when training may go on."""
        begun = now_ns()
        ticket = self._acquire(step)
        acquired = now_ns()
        self._stage(ticket)
        staged = now_ns()
        self._release(ticket)
        self.context.recorder.event("save", s=step, t0=begun, t_slot=acquired, t_staged=staged)

    def drain(self) -> None:
        """Wait until nothing is in flight; called once, after the last step."""
        begun = now_ns()
        self._drain()
        self.context.recorder.event("drain", t0=begun)
        self._stop_processes()
        self._remove_old_checkpoints()

    @abstractmethod
    def _prepare(self) -> None: ...

    @abstractmethod
    def _restore(self) -> RestoreResult: ...

    @abstractmethod
    def _acquire(self, step: int) -> Any:
        """Wait for room for one more checkpoint in flight; the ticket is handed to the next hooks."""

    @abstractmethod
    def _stage(self, ticket: Any) -> None:
        """Snapshot; on return training may go on as far as the fences let it."""

    @abstractmethod
    def _release(self, ticket: Any) -> None:
        """Persist and commit inline, or hand over to the background."""

    @abstractmethod
    def _drain(self) -> None: ...

    def _stop_processes(self) -> None:
        """Nothing is in flight: end processes that the engine started. Not billed to its checkpoints."""

    def _remove_old_checkpoints(self) -> None:
        """The run is complete: give disk back, keeping the newest checkpoint. Not billed to the engine."""


@dataclass(frozen=True)
class EnginePlugin:
    """What an engine's file exports. The promises are shown in the report beside its numbers.

    durable: committed means fsynced. verified: a damaged checkpoint is noticed. exact: RNG and buffers of
    every rank come back. limits: what else it leaves to its user, or to ecrl in its place, in a few words. They are
    those of the default options.

    format: what lies in a checkpoint's folder, as in storage/formats.py. options: declared as in config/options.py.
    All of them literals, which are read without importing an engine.
    """

    description: str
    make: Callable[[EngineContext], Engine]
    durable: bool
    verified: bool
    exact: bool
    limits: str = ""
    format: str | Mapping[str, Any] = OWN_FORMAT
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, context: EngineContext) -> Engine:
        """The engine, options that the context lacks at their legacy values."""
        legacy = {option: told["legacy"] for option, told in self.options.items()}
        return self.make(replace(context, options=legacy | dict(context.options)))


class NoCheckpoints(Engine):
    """`reference`: nothing is saved, nothing can be restored."""

    def is_due(self, step: int) -> bool:
        return False

    def _prepare(self) -> None:
        pass

    def _restore(self) -> RestoreResult:
        return RestoreResult(step=0)

    def _acquire(self, step: int) -> Any:
        raise AssertionError("the reference variant takes no checkpoints")

    def _stage(self, ticket: Any) -> None:
        raise AssertionError("the reference variant takes no checkpoints")

    def _release(self, ticket: Any) -> None:
        raise AssertionError("the reference variant takes no checkpoints")

    def _drain(self) -> None:
        pass
