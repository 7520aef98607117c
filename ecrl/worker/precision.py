"""Mixed precision: autocast computes in a short type over weights of fp32, and fp16 scales its loss.

Under autocast, operations that multiply matrices compute in the short type, and sensitive ones in fp32.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import torch
from torch.amp.grad_scaler import GradScaler

COMPUTE_DTYPES: Final[Mapping[str, torch.dtype | None]] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """The context of a forward pass and its loss; with fp32, one that changes nothing."""
    dtype = COMPUTE_DTYPES[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


class LossScaler(GradScaler):
    """torch's scaler of losses, for one optimizer. Without fp16 it does nothing.

    It multiplies the loss, so that small gradients do not vanish in fp16, and divides the gradients by the same factor.
    A step whose gradients are not finite is skipped, and halves the factor.
    """

    def __init__(self, device: torch.device, precision: str, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(device.type, enabled=precision == "fp16")
        self._optimizer, self._stepped = optimizer, True
        if self.is_enabled():
            self.scale(torch.zeros((), device=device))  # creates the state, which a restore needs before the first step
            optimizer.register_step_post_hook(self._note_step)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The live state, which only `update_weights` changes; without fp16 there is none."""
        if not self.is_enabled():
            return {}
        # `state_dict` gives numbers, for which a GPU would have to be waited for.
        factor, growth = self._check_scale_growth_tracker("tensors")
        return {"scale": factor, "growth_tracker": growth}

    def unscale_gradients(self) -> None:
        """Divide the gradients now. Otherwise `update_weights` does it."""
        self.unscale_(self._optimizer)

    def update_weights(self) -> bool:
        """Take the optimizer's step and adapt the factor. Returns False if the step was skipped.

        With fp16 this waits for the device: the host must know whether to step.
        """
        self._stepped = not self.is_enabled()
        self.step(self._optimizer)
        self.update()
        return self._stepped

    def _note_step(self, *_: Any) -> None:
        self._stepped = True


def find_precision_fault(precision: str) -> str:
    """Why the CPU cannot train in a precision, as one line; empty if it can. Tries it on a small model."""
    # Whether a type is fast, which PyTorch can be asked, says nothing on whether every operation has a kernel for it.
    cpu = torch.device("cpu")
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.GELU(), torch.nn.Flatten(2), torch.nn.Linear(4, 4)
    )
    try:
        with autocast(cpu, precision):
            found = model(torch.zeros(2, 3, 4, 4))
            attention = torch.nn.functional.scaled_dot_product_attention(found, found, found, is_causal=True)
        scaler = LossScaler(cpu, precision, torch.optim.SGD(model.parameters()))
        torch.autograd.backward(scaler.scale(attention.sum()))
        scaler.update_weights()
    except RuntimeError as error:
        return " ".join(str(error).split())[:200]
    return ""
