"""The memory of a training step as the model's own operations take it, computed on tensors that have no data."""

import contextlib

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedOperatorException,
)

from ecrl.workloads.task import load_class, make_model

# Tracing takes about a second. Below this size the samples of a step fit into every machine that runs PyTorch.
_SMALL_BYTES = 16 * 2**20
_UNTRACEABLE = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


def describe_footprint(dataset: str, model: str, sequence_length: int) -> dict[str, int | None]:
    """The bytes of parameters, of buffers, and of what one sample keeps for the backward pass. Reads no data.

    activations: None if unknown: of a small model, and of one whose operations depend on the values of tensors.
    """
    with torch.device("meta"):
        module = make_model(dataset, model)
    parameters = sum(int(p.nbytes) for p in module.parameters())
    buffers, activations = sum(int(b.nbytes) for b in module.buffers()), None
    if parameters > _SMALL_BYTES:
        with contextlib.suppress(*_UNTRACEABLE):
            activations = _measure_activations(dataset, model, module, sequence_length)
    return {"parameters": parameters, "buffers": buffers, "activations": activations}


def _measure_activations(dataset: str, model: str, module: nn.Module, sequence_length: int) -> int:
    # Fake tensors and not meta ones: attention then has the kernel of a CPU, whose memory does not grow with T * T.
    task, saved = load_class(dataset, model), dict[int, torch.Tensor]()

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with FakeTensorMode():
        _make_fake(module)
        example = task.make_example(sequence_length)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task.loss(module, example)
        state = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
        del loss
        return sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in state)


def _make_fake(module: nn.Module) -> None:
    """Put tensors without data, that say that they are on the CPU, in the place of all parameters and buffers."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                part._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
