"""A committed checkpoint as one rank reads it back: which file holds what, and loading in place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ecrl.checkpoint.state_view import (
    META_LEAF,
    ForeignCheckpointError,
    StateView,
    TensorSpec,
    check_same_model,
    get_tensor_specs,
    read_tensor_specs,
)
from ecrl.storage.commit import ShardNames


class SavedState:
    """The checkpoint in `folder`, written by `world_size` ranks, for the rank `rank`."""

    def __init__(self, folder: Path, rank: int, world_size: int) -> None:
        self._folder, self._rank = folder, rank
        # Every rank's shard, and its file of tensors that never change if it has one.
        paths = [
            (r, folder / name) for r in range(world_size) for name in (ShardNames(r).tensors, ShardNames(r).frozen)
        ]
        self._files = [(r, path, read_tensor_specs(path)) for r, path in paths if path.exists()]
        self._facts = [json.loads((folder / ShardNames(r).facts).read_text()) for r in range(world_size)]
        self._places = [facts.get("shards", {}) for facts in self._facts]
        self.meta: dict[str, Any] = self._facts[rank]["meta"]

    def check_same_model(self, view: StateView) -> None:
        """Check that the saved tensors have the names, types and whole shapes of the live ones.

        Raises:
            ForeignCheckpointError: a tensor differs.
        """
        live = get_tensor_specs(view.replicated | view.local | view.host)
        live |= {name: TensorSpec(str(shard.rows.dtype), shard.shape) for name, shard in view.shards.items()}
        saved = {}
        for rank, _, specs in self._files:
            places = self._places[rank]
            for name, spec in specs.items():
                if rank == self._rank or not name.startswith("own/"):
                    saved[name] = TensorSpec(spec.dtype, tuple(places[name]["shape"])) if name in places else spec
        check_same_model(live, saved, self._folder)

    def load(self, view: StateView, halfway: Callable[[], None]) -> dict[str, str]:
        """Copy the saved tensors into the live ones. Returns the recorded digest of every part of this rank's state.

        halfway: called when about half of the tensors are loaded.

        Raises:
            ForeignCheckpointError: no rank saved exactly the rows that this rank holds.
        """
        wanted = self._locate(view)
        for half in (0, 1):
            for (_, path, _), found in zip(self._files, wanted, strict=True):
                with safe_open(str(path), framework="pt") as file:
                    for name, live in found[half::2]:
                        live.copy_(file.get_tensor(name))
            if half == 0:
                halfway()
        recorded = {
            name: self._facts[rank]["leaves"][name]
            for (rank, _, _), found in zip(self._files, wanted, strict=True)
            for name, _ in found
        }
        return recorded | {META_LEAF: self._facts[self._rank]["leaves"][META_LEAF]}

    def _locate(self, view: StateView) -> list[list[tuple[str, torch.Tensor]]]:
        """The live tensors to be filled from each file."""
        wanted: list[list[tuple[str, torch.Tensor]]] = []
        for rank, _, specs in self._files:
            own = view.local | view.host if rank == self._rank else {}
            wanted.append([(name, (view.replicated | own)[name]) for name in specs if name in view.replicated | own])
        for name, shard in view.shards.items():
            if not len(shard.rows):
                continue
            for (rank, _, specs), found in zip(self._files, wanted, strict=True):
                spec = specs.get(name)
                if spec and self._places[rank][name] == shard.place and spec.shape == tuple(shard.rows.shape):
                    found.append((name, shard.rows))
                    break
            else:
                raise ForeignCheckpointError(
                    f"{self._folder}: split over the ranks in another way: no rank saved exactly the rows"
                    f" {shard.begin} to {shard.end} of {name}"
                )
        return wanted
