"""A training state in miniature: every kind of tensor that a snapshot meets, each element telling its step."""

import torch

from ecrl.checkpoint.state_view import StateView

# name -> (shape, dtype); the buffers change in the forward, the rest in the update
_REPLICATED: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    "model/conv.weight": ((64, 3, 7, 7), torch.float32),
    "model/fc.bias": ((10,), torch.bfloat16),
    "optimizer/conv.weight/exp_avg": ((64, 3, 7, 7), torch.float32),
}
_BUFFERS: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
    "own/buffers/bn.running_mean": ((64,), torch.float32),
    "own/buffers/bn.num_batches_tracked": ((), torch.int64),
}
HOST_STEP = "optimizer/conv.weight/step"  # as AdamW keeps it: in host memory, beside state on the device
HOST_RNG = "own/rng/torch"

ON_DEVICE_REPLICATED = sorted(_REPLICATED)
ON_DEVICE_BUFFERS = sorted(_BUFFERS)


class ToyTraining:
    """Steps are copies from pinned tables: asynchronous as kernels are, and what the stand-in can do."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self._tables = {
            name: [torch.full(shape, step + 1, dtype=dtype).pin_memory() for step in range(steps + 1)]
            for name, (shape, dtype) in (_REPLICATED | _BUFFERS).items()
        }
        self._live = {name: torch.empty_like(table[0], device=device) for name, table in self._tables.items()}
        self._gradient = torch.empty_like(self._live["optimizer/conv.weight/exp_avg"])
        self._host_step = torch.tensor(0.0)
        for name in self._live:
            self._write(name, 0)

    def _write(self, name: str, step: int) -> None:
        source = self._tables[name][step]
        if name.endswith("exp_avg"):  # by way of another device tensor: a copy on the device is an update too
            self._gradient.copy_(source, non_blocking=True)
            source = self._gradient
        self._live[name].copy_(source, non_blocking=True)

    def forward(self, step: int) -> None:
        for name in _BUFFERS:
            self._write(name, step)

    def update(self, step: int) -> None:
        for name in _REPLICATED:
            self._write(name, step)
        self._host_step.fill_(step)

    def view(self, step: int) -> StateView:
        return StateView(
            replicated={name: self._live[name] for name in _REPLICATED} | {HOST_STEP: self._host_step},
            local={name: self._live[name] for name in _BUFFERS},
            host={HOST_RNG: _rng_bytes(step)},
            meta={"step": step},
        )

    def expected(self, step: int) -> dict[str, torch.Tensor]:
        device = {name: table[step] for name, table in self._tables.items()}
        return device | {HOST_STEP: torch.tensor(float(step)), HOST_RNG: _rng_bytes(step)}


def _rng_bytes(step: int) -> torch.Tensor:
    return torch.full((16,), step, dtype=torch.uint8)
