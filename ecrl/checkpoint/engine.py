"""The base class of every checkpoint engine: guards, timing spans and records. Engines implement the hooks.

The base class takes the measurements, so all engines are measured in the same way.
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
    """The live training state that an engine saves and restores.

    fixed: the names, types and shapes of its tensors never change. Those of a user's own optimizer appear at its first
    step.
    """

    fixed = True

    def prepare_to_load(self, meta: dict[str, Any]) -> None:
        """Create the tensors that a checkpoint with this metadata has and the live state lacks."""

    @abstractmethod
    def view(self, step: int) -> StateView:
        """The state after `step`: tensors that alias the live ones, and private copies of the host state."""

    @abstractmethod
    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        """Set the host state after the tensors were loaded in place. RNG states are set last."""


def inject_nothing(phase: str, step: int) -> None:
    """Do nothing: the default of `EngineContext.reached`, for runs without planned failures."""


@dataclass(frozen=True)
class EngineContext:
    """The inputs of an engine. agree: creates a new agreement with its own store connection.

    reached(phase, step): the engine calls this inside each phase of the checkpoint of `step`, from any thread. A
    planned failure may strike there. The phases: staging (the copy has started), persist (part of this rank's bytes
    are written), commit (everything is durable, nothing is published), retention (an old checkpoint is withdrawn, its
    files still exist), restore (half of the state is loaded).

    fallbacks: where checkpoints go that `root` refuses, in this order; only engines with `EnginePlugin.falls_back` get
    any. If there are some, every place exists already, or is one that refuses.

    verify(root, step): `storage.commit.verify` for this run, if its verification started before the context existed.

    keep_at_end: how many checkpoints are left after the last step.

    options: values of the options that the engine's `EnginePlugin` declares. `EnginePlugin.build` adds missing ones.
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
    verify: Callable[[Path, int], Verdict] | None = None
    fallbacks: tuple[Path, ...] = ()
    keep_at_end: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RestoreResult:
    """The result of a restore. step: 0 if there was no checkpoint and training starts from the beginning.

    The digests cover this rank's whole state: as recorded when the snapshot was written, and as it is live now.
    passed_over: step and reason of every newer checkpoint that could not be used.
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
        """Whether the engine takes a checkpoint after `step`."""
        return step % self.context.checkpoint_every == 0

    def prepare(self) -> None:
        """Allocate everything that checkpoints need. Call it before the first step."""
        self._prepare()  # the first checkpoint must cost the same as the others

    def refit(self) -> None:
        """Allocate anew what no longer fits the state. Call it after tensors have appeared in it."""

    def restore(self) -> RestoreResult:
        """Load the newest checkpoint that verifies on every rank into the live state, and record it."""
        begun = now_ns()
        restored = self._restore()
        self.context.reached("restore", restored.step)  # for engines without this phase, or with nothing to load
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
        """Protect buffers that are still being copied. Call it before each forward, which changes them."""

    def before_update(self, step: int) -> None:
        """Protect parameters and optimizer state that are still being copied. Call it before `optimizer.step`."""

    def synchronize_if_due(self, step: int) -> None:
        """Wait for the device if a synchronous engine takes a checkpoint now. Call it at the end of each step.

        The step, not the snapshot, is then charged for queued kernels.
        """

    def save(self, step: int) -> None:
        """Take the checkpoint of `step`. Returns when training may continue."""
        begun = now_ns()
        ticket = self._acquire(step)
        acquired = now_ns()
        self._stage(ticket)
        staged = now_ns()
        self._release(ticket)
        self.context.recorder.event("save", s=step, t0=begun, t_slot=acquired, t_staged=staged)

    def drain(self) -> None:
        """Wait until no checkpoint is in flight. Call it once, after the last step."""
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
        """Wait for room for one more checkpoint in flight. Returns the ticket that the next hooks receive."""

    @abstractmethod
    def _stage(self, ticket: Any) -> None:
        """Start or make the snapshot. After it returns, training may continue up to the fences."""

    @abstractmethod
    def _release(self, ticket: Any) -> None:
        """Persist and commit now, or pass the ticket to the background."""

    @abstractmethod
    def _drain(self) -> None: ...

    def _stop_processes(self) -> None:
        """End processes that the engine started. Nothing is in flight. The `drain` event does not include this time."""

    def _remove_old_checkpoints(self) -> None:
        """Remove the checkpoints that a complete run does not need. The `drain` event does not include this time."""


@dataclass(frozen=True)
class EnginePlugin:
    """The export of an engine's file. The report shows durable, verified, exact and limits next to the numbers.

    durable: committed means fsynced. verified: damage to a checkpoint is detected. exact: RNG and buffers of every
    rank are restored. limits: what else the engine leaves to its user or to ecrl, in a few words. These four hold for
    the default options.

    late_state: the engine saves and restores state that is not `CheckpointableState.fixed`.
    sharded: the engine saves state of which each rank holds a part (`StateView.shards`).
    ignores_max_inflight: the engine has one checkpoint in flight at most, so suites that differ in `max_inflight` alone
    are the same work.
    streams: on a CPU the engine writes the live state, and so needs no memory for a copy of it.
    falls_back: the engine writes a checkpoint that one place refuses to the next one (`EngineContext.fallbacks`).
    format: the files of a checkpoint's folder, see storage/formats.py. options: see config/options.py. All values are
    literals, because they are read without importing the engine.
    """

    description: str
    make: Callable[[EngineContext], Engine]
    durable: bool
    verified: bool
    exact: bool
    limits: str = ""
    sharded: bool = False
    late_state: bool = False
    ignores_max_inflight: bool = False
    streams: bool = False
    falls_back: bool = False
    format: str | Mapping[str, Any] = OWN_FORMAT
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def build(self, context: EngineContext) -> Engine:
        """The engine. Options that `context` lacks get their legacy values."""
        legacy = {option: told["legacy"] for option, told in self.options.items()}
        return self.make(replace(context, options=legacy | dict(context.options)))


class NoCheckpoints(Engine):
    """The engine of the variant `reference`: saves nothing and restores nothing."""

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
