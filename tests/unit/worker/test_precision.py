"""Mixed precision: what autocast computes in, and the scaler's state and skipped steps."""

import pytest
import torch

from ecrl.config.train import TrainSettings
from ecrl.worker.precision import LossScaler, autocast
from ecrl.worker.state import TrainState, make_optimizer

CPU = torch.device("cpu")


def make(precision: str) -> tuple[torch.nn.Linear, torch.optim.Optimizer, LossScaler]:
    torch.manual_seed(3)
    model = torch.nn.Linear(4, 2)
    optimizer = make_optimizer(model, TrainSettings(steps=1, momentum=0.0, weight_decay=0.0, lr=0.1))
    return model, optimizer, LossScaler(CPU, precision, optimizer)


def backward(model: torch.nn.Linear, scaler: LossScaler, factor: float = 1.0) -> list[float]:
    """The gradient of the bias after the pass."""
    torch.autograd.backward(scaler.scale(model(torch.ones(1, 4)).sum() * factor))
    assert model.bias.grad is not None
    found: list[float] = model.bias.grad.tolist()
    return found


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_product_of_matrices_has_the_type_and_the_weights_and_gradients_are_fp32(
    precision: str, dtype: torch.dtype
) -> None:
    model, _, _ = make(precision)
    with autocast(CPU, precision):
        found = model(torch.ones(1, 4))
    torch.autograd.backward(found.sum())
    assert found.dtype == dtype
    assert {t.dtype for p in model.parameters() for t in (p, p.grad) if t is not None} == {torch.float32}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_fp16_scales(precision: str) -> None:
    model, _, scaler = make(precision)
    assert backward(model, scaler) == [1.0, 1.0]
    assert scaler.update_weights()
    assert scaler.tensors == {}


@pytest.mark.parametrize("unscale_first", [True, False])
def test_a_scaled_step_is_the_plain_one(unscale_first: bool) -> None:
    model, _, scaler = make("fp16")
    before = model.bias.detach().clone()
    assert backward(model, scaler) == [2.0**16, 2.0**16]
    if unscale_first:
        scaler.unscale_gradients()
        assert model.bias.grad is not None
        assert model.bias.grad.tolist() == [1.0, 1.0]
    assert scaler.update_weights()
    assert torch.equal(model.bias, before - 0.1)
    assert scaler.tensors["growth_tracker"].item() == 1


def test_a_step_whose_gradients_overflow_is_skipped_and_the_next_one_is_not() -> None:
    model, optimizer, scaler = make("fp16")
    before = [p.detach().clone() for p in model.parameters()]
    backward(model, scaler, factor=float("inf"))
    assert not scaler.update_weights()
    assert all(map(torch.equal, model.parameters(), before))
    assert scaler.tensors["scale"].item() == 2.0**15
    optimizer.zero_grad()
    backward(model, scaler)
    assert scaler.update_weights()


def test_the_scalers_state_is_saved_live_from_the_first_instant() -> None:
    model, optimizer, scaler = make("fp16")
    state = TrainState(model, optimizer, CPU, scaler.tensors)
    saved = {name: t.clone() for name, t in state.view(0).replicated.items() if name.startswith("scaler/")}
    assert {name: t.item() for name, t in saved.items()} == {"scaler/scale": 2.0**16, "scaler/growth_tracker": 0}
    backward(model, scaler, factor=float("inf"))
    scaler.update_weights()
    live = state.view(1).replicated
    assert live["scaler/scale"].item() == 2.0**15
    for name, tensor in saved.items():  # as a restore does
        live[name].copy_(tensor)
    optimizer.zero_grad()
    assert backward(model, scaler) == [2.0**16, 2.0**16]
