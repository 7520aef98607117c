"""The interface of a kind of failure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecrl.records.failure_checks import IN_STEP_PHASES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Strike:
    """One planned failure at its place. step, phase: where (records/failure_checks.py). options: the kind's, all of
    them. peers: the processes of the other ranks that are struck too."""

    step: int
    phase: str
    options: Mapping[str, Any]
    peers: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class FailureKind:
    """What happens when a planned failure strikes. One file a kind in `kinds/`, exporting one `PLUGIN`.

    All fields are literals, read without importing the kind. ends_attempt: whether the worker group must start again.
    phases: those it can strike in, the first one where a schedule names none; a kind overrides the hooks of these.
    options: what a schedule may say beside place and rank, declared as in config/options.py.
    """

    description: str
    ends_attempt: bool
    phases: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @staticmethod
    def get_hook_name(phase: str) -> str:
        """The name of the hook that is called in a phase."""
        return f"on_{phase}" if phase in IN_STEP_PHASES else "on_phase"

    def on_phase(self, strike: Strike) -> None:
        """Strike after a step or in a phase of a checkpoint or a restart, in whichever thread is there. May not
        return."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_loss(self, strike: Strike, loss: "torch.Tensor") -> "torch.Tensor":
        """The loss that the backward pass is to begin from, in place of `loss`."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_gradients(self, strike: Strike, model: "torch.nn.Module") -> None:
        """Strike once the gradients of the step are in the parameters."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")

    def on_update(self, strike: Strike, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer") -> None:
        """Strike once the step's update is in the parameters."""
        raise NotImplementedError(f"{type(self).__name__} does not strike in {strike.phase}")
