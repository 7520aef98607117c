"""`TrainState` and the real `torch.optim.SGD`, with momentum and foreach: its `step()` only queues the update.

Three operators are given to torch for this device. Forward and backward would be kernels, so gradients are
constants and "the forward" writes BatchNorm's statistics by itself. A twin in host memory says what a snapshot
must hold; all numbers are small multiples of powers of two, so both compute them exactly.
Prints {policy: {stager: torn}}.
"""

import json

import torch

from ecrl.checkpoint.state_view import StateView
from ecrl.config.train import TrainSettings
from ecrl.worker.state import TrainState, make_optimizer
from tests.cuda_standin.drill import Torn, take_snapshots
from tests.cuda_standin.library import StandIn
from tests.cuda_standin.mutants import FENCES

STEPS = 4
SETTINGS = TrainSettings(steps=STEPS, optimizer="sgd", lr=0.5, momentum=0.5, weight_decay=0)


def provide_operators(standin: StandIn) -> torch.library.Library:
    """Give torch the operators of the update; they last as long as the library that is returned."""

    def zero(tensor: torch.Tensor) -> torch.Tensor:
        standin.axpby(tensor, 0, tensor, 0)
        return tensor

    def multiply(tensors: list[torch.Tensor], factor: float) -> None:
        for tensor in tensors:
            standin.axpby(tensor, factor, tensor, 0)

    def add(tensors: list[torch.Tensor], others: list[torch.Tensor], alpha: float = 1) -> None:
        for tensor, other in zip(tensors, others, strict=True):
            standin.axpby(tensor, 1, other, alpha)

    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for name, operator in (("zero_", zero), ("_foreach_mul_.Scalar", multiply), ("_foreach_add_.List", add)):
        library.impl(name, operator, "CUDA")  # type: ignore[no-untyped-call]
    return library


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Flatten(), torch.nn.Linear(16, 10)
    model = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_((p * 64).round() / 64)
    return model


class Half:
    """Model, optimizer and state on one device."""

    def __init__(self, device: torch.device) -> None:
        self.model = network().to(device)
        self.optimizer = make_optimizer(self.model, SETTINGS)
        self.state = TrainState(self.model, self.optimizer, device)
        for i, p in enumerate(self.model.parameters()):
            p.grad = torch.full(p.shape, (i + 1) / 8).to(device)


class SgdTraining:
    """The network on the device, and its twin."""

    def __init__(self, standin: StandIn, device: torch.device) -> None:
        self._standin = standin
        self._live, self._twin = Half(device), Half(torch.device("cpu"))
        self._statistics = [torch.full((16,), step + 2.0).to(device) for step in range(STEPS + 1)]
        self._counts = [torch.tensor(step).pin_memory() for step in range(STEPS + 1)]
        self._expected: dict[int, dict[str, torch.Tensor]] = {}

    def forward(self, step: int) -> None:
        for (name, live), twin in zip(self._live.model.named_buffers(), self._twin.model.buffers(), strict=True):
            if name.endswith("num_batches_tracked"):
                live.copy_(self._counts[step], non_blocking=True)
                twin.fill_(step)
            else:
                self._standin.axpby(live, 0.5, self._statistics[step], 0.5)
                twin.mul_(0.5).add_(step + 2.0, alpha=0.5)

    def update(self, step: int) -> None:
        self._live.optimizer.step()
        self._twin.optimizer.step()

    def view(self, step: int) -> StateView:
        view, twin = self._live.state.view(step), self._twin.state.view(step)
        tensors = twin.replicated | twin.local | view.host
        self._expected[step] = {name: tensor.clone() for name, tensor in tensors.items()}
        return view

    def expected(self, step: int) -> dict[str, torch.Tensor]:
        return self._expected[step]


def snapshots(standin: StandIn, policy: str, stager: str) -> Torn:
    device = torch.device("cuda", 0)
    standin.reset("eager")
    training = SgdTraining(standin, device)
    standin.reset(policy)
    return take_snapshots(FENCES[stager](device), training, STEPS, in_step=True)


def main() -> None:
    standin = StandIn()
    operators = provide_operators(standin)
    policies = ("eager", "lazy", "hostile", "random-1")
    print(json.dumps({p: {s: snapshots(standin, p, s) for s in FENCES} for p in policies}))
    del operators


if __name__ == "__main__":
    main()
