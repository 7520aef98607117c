"""What engines of other formats share: a folder per step, found complete or not; the newest complete one wins.

A restore believes what the format itself calls complete, as its users do: nothing is verified and nothing is
fallen back on. A checkpoint that fails is counted and recorded on every rank, and training goes on.
"""

import json
import shutil
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.codec import StateView
from ecrl.checkpoint.engine import Engine, Restored
from ecrl.storage.commit import all_steps, step_folder


class ForeignCheckpointError(Exception):
    """A checkpoint of another run, world size or model; the message says what differs."""


class PeerEngine(Engine):
    """Retention, choice of what to restore, and the records of a checkpoint's fate."""

    @abstractmethod
    def _complete(self, folder: Path) -> bool:
        """Whether the format calls the checkpoint in `folder` complete."""

    @abstractmethod
    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        """Copy a complete checkpoint into the tensors of `view`, in place; returns the metadata that `_meta` made.

        Raises:
            Exception: it cannot be read. These formats have no older checkpoint to fall back on by themselves.
        """

    def _prepare(self) -> None:
        self.context.root.mkdir(parents=True, exist_ok=True)

    def settle(self, step: int) -> None:
        if self.due(step) and self.context.device.type != "cpu":
            torch.accelerator.synchronize(self.context.device)

    def _acquire(self, step: int) -> Any:
        return step

    def _meta(self, view: StateView) -> dict[str, Any]:
        """This rank's host state, bound to run, world size and rank."""
        return {"of": self._identity(), "state": view.meta}

    def _identity(self) -> dict[str, Any]:
        context = self.context
        return {"run": context.run_hash, "world_size": context.world_size, "rank": context.rank}

    # --- the fate of a checkpoint -------------------------------------------------------------------------

    def _published(self, step: int) -> None:
        """The checkpoint of `step` is complete."""
        if self.context.rank == 0:
            self.context.recorder.event("committed", s=step)
            self._retain(self.context.keep, halfway=lambda: self.context.reached("retention", step))

    def _given_up(self, step: int, reason: str, partial: Path | None) -> None:
        """The checkpoint of `step` failed on some rank. partial: what it left, once nobody writes there; a full
        disk needs the room."""
        self.context.recorder.event("persist_failed", s=step, reason=reason)
        if self.context.rank == 0 and partial is not None and partial.exists():
            shutil.rmtree(partial)

    def _retire(self) -> None:
        if self.context.rank == 0:
            self._retain(1)

    def _complete_steps(self) -> list[int]:
        root = self.context.root
        return [step for step in all_steps(root) if self._complete(step_folder(root, step))]

    def _retain(self, keep: int, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove all but the newest `keep` complete checkpoints; the newest always stays. halfway: called when a
        checkpoint is withdrawn and its files are still there."""
        for step in self._complete_steps()[:-keep]:
            self._remove(step_folder(self.context.root, step), halfway)
            self.context.recorder.event("removed", s=step)

    def _remove(self, folder: Path, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove a checkpoint so that no instant shows a complete one with files missing: renamed first."""
        going = folder.with_name(f"removing-{folder.name}")
        folder.rename(going)
        halfway()
        shutil.rmtree(going)

    # --- restore ------------------------------------------------------------------------------------------

    def _restore(self) -> Restored:
        agreement = self.context.agree()
        seen = agreement.exchange("restore/complete", self._complete_steps())
        step: int = max(set(seen[0]).intersection(*seen[1:]), default=0)
        if step > 0:
            self._take_over(step)
        self._sweep(agreement, newest=step)
        return Restored(step=step)

    def _take_over(self, step: int) -> None:
        folder = step_folder(self.context.root, step)
        view = self.context.state.view(step)
        meta = self._load(folder, step, view)
        if meta["of"] != self._identity():
            raise ForeignCheckpointError(f"{folder}: found {json.dumps(meta['of'])}, expected {self._identity()}")
        self.context.state.restored(meta["state"], view.host)

    def _sweep(self, agreement: Agreement, *, newest: int) -> None:
        """Clear what the attempt that died left half done: the coming steps will write there again."""
        root = self.context.root
        if self.context.rank == 0:
            for folder in [p for p in root.iterdir() if p.name.startswith(("partial-", "removing-"))]:
                shutil.rmtree(folder)
            for step in all_steps(root):
                if step > newest or not self._complete(step_folder(root, step)):
                    self._remove(step_folder(root, step))
        agreement.exchange("restore/swept", None)  # nobody writes into a folder that is about to go
