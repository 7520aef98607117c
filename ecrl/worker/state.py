"""The training state: its parts, the engine's view of it, and its final digests."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import CheckpointableState
from ecrl.checkpoint.state_view import Shard, StateView, leaf_digest, root_digest, state_digest
from ecrl.config.train import TrainSettings
from ecrl.worker.dtensor import find_shard


def make_optimizer(model: torch.nn.Module, train: TrainSettings) -> torch.optim.Optimizer:
    """SGD or AdamW for the parameters that train. Its state exists at once, with the values before the first step."""
    # Optimizers create their state lazily at the first step, but a restore or a snapshot slot needs it before.
    parameters = [p for p in model.parameters() if p.requires_grad]
    if train.optimizer == "sgd":
        sgd = torch.optim.SGD(parameters, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
        if train.momentum:
            for p in parameters:
                sgd.state[p]["momentum_buffer"] = torch.zeros_like(p)
        return sgd
    adamw = torch.optim.AdamW(parameters, lr=train.lr, weight_decay=train.weight_decay)
    for p in parameters:
        adamw.state[p] |= {
            "step": torch.tensor(0.0),
            "exp_avg": torch.zeros_like(p),
            "exp_avg_sq": torch.zeros_like(p),
        }
    return adamw


class TrainState(CheckpointableState):
    """Model, optimizer, scaler of losses, and every random generator of one rank.

    The host state consists of the generators and the step. The learning rate is a function of the step
    (`lr_schedule.py`), and the sampler's position is the step.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        scaler: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """scaler: the state of `LossScaler`."""
        self._device = device
        self._buffers = {f"own/buffers/{name}": b for name, b in model.named_buffers()}
        named: dict[str, torch.Tensor] = {f"model/{name}": p for name, p in model.named_parameters()}
        names = {id(p): name for name, p in model.named_parameters()}
        for p, state in optimizer.state.items():
            named |= {f"optimizer/{names[id(p)]}/{key}": value for key, value in state.items()}
        named |= {f"scaler/{name}": tensor for name, tensor in (scaler or {}).items()}
        parts = {name: find_shard(name, tensor) for name, tensor in named.items()}
        self._replicated = {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}
        self._shards = {name: part for name, part in parts.items() if isinstance(part, Shard)}
        self._frozen = frozenset(f"model/{name}" for name, p in model.named_parameters() if not p.requires_grad)

    def view(self, step: int) -> StateView:
        return StateView(
            replicated=self._replicated,
            local=self._buffers,
            host=self._generators(),
            meta={"step": step, "python_rng": _jsonable(random.getstate())},
            shards=self._shards,
            frozen=self._frozen,
        )

    def _generators(self) -> dict[str, torch.Tensor]:
        _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        generators = {
            "own/rng/torch": torch.get_rng_state(),
            "own/rng/numpy_keys": torch.from_numpy(np.asarray(keys, dtype=np.uint32).view(np.int32).copy()),
            "own/rng/numpy_rest": torch.tensor([position, has_gauss, gauss], dtype=torch.float64),
        }
        if self._device.type == "cuda":
            generators["own/rng/cuda"] = torch.cuda.get_rng_state(self._device)
        return generators

    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        version, internal, gauss = meta["python_rng"]
        random.setstate((version, tuple(internal), gauss))
        position, has_gauss, cached = host["own/rng/numpy_rest"].tolist()
        keys = host["own/rng/numpy_keys"].numpy().view(np.uint32)
        np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(host["own/rng/cuda"], self._device)
        torch.set_rng_state(host["own/rng/torch"])

    def final_digests(self, step: int, agree: Callable[[], Agreement]) -> dict[str, str]:
        """The digests of the final state.

        digest: model with buffers, and optimizer, with the rows of other ranks (gate C6). params_digest: the state that
        must be equal on all ranks (gate C3); of what is split over them, what the ranks that hold the same rows must
        agree on. rng_digest: this rank's generators. agree: see `EngineContext`; called if something is split.
        """
        view = self.view(step)
        whole, params = state_digest(view.replicated | view.local), state_digest(view.replicated)
        if view.shards:
            # Gate C6 reads the digest of one rank, which must show a wrong row of any rank.
            rows = self._exchange_shards(view, agree())
            whole, params = root_digest({"rest": whole} | rows), root_digest({"replicated": params} | rows)
        return {
            "digest": whole,
            "params_digest": params,
            "rng_digest": state_digest(view.host, {"python_rng": view.meta["python_rng"]}),
        }

    def _exchange_shards(self, view: StateView, agreement: Agreement) -> dict[str, str]:
        """The digest of every part of what is split: this rank's own, and of other rows those of another holder."""
        own = {f"{name} {s.begin}:{s.end}": leaf_digest(s.rows) for name, s in view.shards.items() if len(s.rows)}
        merged: dict[str, str] = {}
        for theirs in reversed(agreement.exchange("final/shards", own)):  # rows of several holders: the lowest rank's
            merged |= theirs
        return merged | own


def _jsonable(state: tuple[Any, ...]) -> list[Any]:
    version, internal, gauss = state
    return [version, list(internal), gauss]
