"""The training state: its parts, the engine's view of it, and its final digests."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import CheckpointableState
from ecrl.checkpoint.state_view import Shard, StateView, leaf_digest, root_digest, state_digest
from ecrl.config.train import TrainSettings
from ecrl.worker.dtensor import find_shard
from ecrl.worker.generators import get_generators, get_python_generator, set_generators


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
            host=get_generators(self._device),
            meta={"step": step, "python_rng": get_python_generator()},
            shards=self._shards,
            frozen=self._frozen,
        )

    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        set_generators(meta["python_rng"], host, self._device)


def compute_final_digests(
    view: StateView, agree: Callable[[], Agreement], settings: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The digests of the final state.

    digest: model with buffers, and optimizer, with the rows of other ranks and `settings` (gate C6). params_digest: the
    state that must be equal on all ranks (gate C3); of what is split over them, what the ranks that hold the same rows
    must agree on. rng_digest: this rank's generators. agree: see `EngineContext`; called if something is split.
    """
    whole, params = state_digest(view.replicated | view.local, settings), state_digest(view.replicated)
    if view.shards:
        # Gate C6 reads the digest of one rank, which must show a wrong row of any rank.
        rows = _exchange_shards(view, agree())
        whole, params = root_digest({"rest": whole} | rows), root_digest({"replicated": params} | rows)
    return {
        "digest": whole,
        "params_digest": params,
        "rng_digest": state_digest(view.host, {"python_rng": view.meta["python_rng"]}),
    }


def _exchange_shards(view: StateView, agreement: Agreement) -> dict[str, str]:
    """The digest of every part of what is split: this rank's own, and of other rows those of another holder."""
    own = {f"{name} {s.begin}:{s.end}": leaf_digest(s.rows) for name, s in view.shards.items() if len(s.rows)}
    merged: dict[str, str] = {}
    for theirs in reversed(agreement.exchange("final/shards", own)):  # rows of several holders: the lowest rank's
        merged |= theirs
    return merged | own
