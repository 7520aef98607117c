"""The interface of a kind of failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecrl.records.failure_checks import IN_STEP_PHASES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Strike:
    """One planned failure that strikes now. step, phase: its place (records/failure_checks.py).

    options: the values of all options of its kind. peers: the process ids of the other ranks that are struck too.
    """

    step: int
    phase: str
    options: Mapping[str, Any]
    peers: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class FailureKind:
    """The effect of a planned failure. Each kind is one file in `kinds/` that exports one `PLUGIN`.

    All fields are literals, which are read without importing the kind. ends_attempt: whether the worker group must
    restart. phases: the phases in which the kind can strike; the first is the default of a schedule. A kind overrides
    the hooks of its phases. options: the options that a schedule may set, declared as in config/options.py.
    """

    description: str
    ends_attempt: bool
    phases: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @staticmethod
    def get_hook_name(phase: str) -> str:
        """The name of the hook for a phase."""
        return f"on_{phase}" if phase in IN_STEP_PHASES else "on_phase"

    def on_phase(self, strike: Strike) -> None:
        """Strike after a step, or in a phase of a checkpoint or a restart. Any thread may call it. May not return."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_loss(self, strike: Strike, loss: "torch.Tensor") -> "torch.Tensor":
        """The loss that replaces `loss` as the start of the backward pass."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_gradients(self, strike: Strike, model: "torch.nn.Module") -> None:
        """Strike after the backward pass, when the parameters have the step's gradients."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_update(self, strike: Strike, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer") -> None:
        """Strike after the update of the parameters."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")
