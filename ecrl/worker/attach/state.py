"""The state of a user's own training loop: model, optimizers, and whatever has a `state_dict`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import CheckpointableState
from ecrl.checkpoint.state_view import ForeignCheckpointError, Shard, StateView
from ecrl.errors import EcrlError
from ecrl.worker.attach import tree
from ecrl.worker.dtensor import find_shard
from ecrl.worker.generators import get_generators, get_python_generator, set_generators
from ecrl.worker.state import compute_final_digests

_SHOWN = 4  # parameters that a message names
_UNCHANGED = "Change the model and build its optimizer before ecrl.attach; a checkpoint holds what was attached."
_OWN_PARAMETERS = ("own/model/", "own/optimizer/")


class Stateful(Protocol):
    """An object with a state of its own: a scheduler, a GradScaler, an average of weights, a data loader."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...


class AttachedState(CheckpointableState):
    """The state of one rank.

    Parameters and their optimizer state are shared with the other ranks if `replicated`; else each rank's plain tensors
    are its own. The tensors of an optimizer's state are found anew for each view, since they appear at its first step.
    """

    fixed = False

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        parts: Mapping[str, Stateful],
        device: torch.device,
        *,
        replicated: bool,
    ) -> None:
        self._model, self._optimizers, self._parts, self._device = model, optimizers, parts, device
        self._is_replicated = replicated
        self._names: dict[torch.Tensor, str] = name_parameters(model, optimizers)
        self._model_names = {name for name, _ in model.named_parameters()}
        self._generators: tuple[list[Any], dict[str, torch.Tensor]] | None = None
        self._loaded: tuple[int, dict[str, Any]] = (0, {})  # the step, and what the parts were or will be given

    def view(self, step: int) -> StateView:
        tensors: dict[str, torch.Tensor] = {f"model/{name}": p for p, name in self._names.items()}
        local = {f"own/buffers/{name}": buffer for name, buffer in self._model.named_buffers()}
        trees: dict[str, Any] = {}
        for place, optimizer in enumerate(self._optimizers):
            name = _name_optimizer(place)
            state = {self._get_name(p): found for p, found in optimizer.state.items()}
            trees[name] = tree.flatten(state, name, tensors)
            trees[_name_groups(place)] = tree.flatten(_list_settings(optimizer), f"own/{_name_groups(place)}", local)
        loaded_step, loaded = self._loaded
        for name, part in self._parts.items():
            # An object may describe the same state otherwise after it was loaded.
            own = loaded[name] if loaded and step == loaded_step else part.state_dict()
            trees[name] = tree.flatten(own, f"own/{name}", local)
        parts = {name: find_shard(name, tensor) for name, tensor in tensors.items()}
        whole = {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}
        mine = {name: find_shard(name, tensor) for name, tensor in local.items()}
        own_tensors = {name: part.rows if isinstance(part, Shard) else part for name, part in mine.items()}
        return StateView(
            replicated=whole if self._is_replicated else {},
            local=own_tensors | ({} if self._is_replicated else {f"own/{name}": each for name, each in whole.items()}),
            host=get_generators(self._device),
            meta={"step": step, "python_rng": get_python_generator(), "trees": trees},
            shards={name: part for name, part in parts.items() if isinstance(part, Shard)},
        )

    def prepare_to_load(self, meta: dict[str, Any]) -> None:
        trees, own = meta["trees"], self.view(0).meta["trees"]
        if trees.keys() != own.keys():
            found, expected = (", ".join(sorted(each)) for each in (trees, own))
            raise ForeignCheckpointError(f"of another script: it has the state of {found}; this one of {expected}")
        for place, optimizer in enumerate(self._optimizers):
            self._prepare_optimizer(place, optimizer, trees)
        parts = {name: tree.build(trees[name], tree.make_tensor) for name in self._parts}
        self._loaded = (meta["step"], parts)

    def _prepare_optimizer(self, place: int, optimizer: torch.optim.Optimizer, trees: dict[str, Any]) -> None:
        """Give an optimizer the settings of the checkpoint, and its state with tensors that are still to be filled."""
        live, saved, groups = self.view(0).local, trees[_name_optimizer(place)], trees[_name_groups(place)]
        if len(groups) != len(optimizer.param_groups) or not saved.keys() <= set(self._names.values()):
            raise ForeignCheckpointError("of another script: its optimizer has other parameters")
        for parameter, name in self._names.items():
            # A checkpoint may have state that this optimizer has not made yet, and lack some that it has.
            optimizer.state.pop(parameter, None)
            if name in saved:
                optimizer.state[parameter] = tree.build(saved[name], partial(tree.make_tensor, like=parameter))
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            group |= tree.build(settings, lambda leaf: live[tree.get_leaf_name(leaf)])

    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        for name, part in self._parts.items():
            part.load_state_dict(self._loaded[1][name])
        self._generators = meta["python_rng"], host
        self.reset_generators()

    def reset_generators(self) -> None:
        """Set the generators to their states in the loaded checkpoint. Does nothing if none was loaded."""
        if self._generators is not None:
            set_generators(*self._generators, self._device)

    def check_unchanged(self) -> None:
        """Check that the model has the parameters that it had when it was attached.

        Raises:
            EcrlError: it has others.
        """
        if (found := {name for name, _ in self._model.named_parameters()}) != self._model_names:
            changed = ", ".join(sorted(found ^ self._model_names)[:_SHOWN])
            raise EcrlError("ECRL-659", f"the model's parameters changed after ecrl.attach: {changed}.\n{_UNCHANGED}")
        for parameter in list_parameters(self._optimizers):
            self._get_name(parameter)

    def _get_name(self, parameter: torch.Tensor) -> str:
        name = self._names.get(parameter)
        if name is None:
            shape = tuple(parameter.shape)
            raise EcrlError(
                "ECRL-659", f"an optimizer got a parameter of shape {shape} after ecrl.attach.\n{_UNCHANGED}"
            )
        return name

    def compute_digests(self, view: StateView, agree: Callable[[], Agreement]) -> dict[str, str]:
        """The digests of the final state; see `compute_final_digests`."""
        # A rank whose plain parameters may be its own says what they are: gate C3 then compares them.
        own = {name: tensor for name, tensor in view.local.items() if name.startswith(_OWN_PARAMETERS)}
        settings = {name: part for name, part in view.meta["trees"].items() if not name.startswith("extra/")}
        return compute_final_digests(replace(view, replicated=view.replicated | own), agree, settings)


def unwrap(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside of DistributedDataParallel and of torch.compile."""
    while True:
        if isinstance(model, torch.nn.parallel.DistributedDataParallel):
            model = model.module
        elif isinstance(inner := getattr(model, "_orig_mod", None), torch.nn.Module):
            model = inner
        else:
            return model


def unwrap_optimizer(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer inside of a library's wrapper, which updates the parameters and has the hooks."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), torch.optim.Optimizer):
        optimizer = inner
    return optimizer


def name_parameters(model: torch.nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[torch.Tensor, str]:
    """The name of every parameter of the model and of the optimizers."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    for place, optimizer in enumerate(optimizers):
        for parameter in list_parameters([optimizer]):
            names.setdefault(parameter, f"{_name_optimizer(place)}-{len(names)}")
    return names


def list_parameters(optimizers: Sequence[torch.optim.Optimizer]) -> list[torch.Tensor]:
    """The parameters that the optimizers update, in order."""
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


def _name_optimizer(place: int) -> str:
    return f"optimizer-{place}" if place else "optimizer"


def _name_groups(place: int) -> str:
    return f"{_name_optimizer(place)}-groups"


def _list_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
