"""The base of engines that write other formats: one folder per step; a restore loads the newest complete one.

A restore trusts the format's own mark of completeness, as users of the format do. It verifies nothing and does not
fall back to older checkpoints. If a checkpoint fails, every rank records the failure and training continues.
"""

import json
import shutil
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ecrl.checkpoint.agreement import Agreement, AgreementError
from ecrl.checkpoint.engine import Engine, RestoreResult
from ecrl.checkpoint.state_view import ForeignCheckpointError, StateView, check_same_model, get_tensor_specs
from ecrl.storage.commit import list_steps, step_folder


class ExternalEngine(Engine):
    """Does the retention, chooses the checkpoint to restore, and records the outcome of each checkpoint."""

    @abstractmethod
    def _is_complete(self, folder: Path) -> bool:
        """Whether the format calls the checkpoint in `folder` complete."""

    @abstractmethod
    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        """Copy a complete checkpoint into the tensors of `view`, in place. Returns the metadata that `_meta` made.

        Raises:
            Exception: the checkpoint cannot be read.
        """

    def _prepare(self) -> None:
        self.context.root.mkdir(exist_ok=True)  # without parents: see `ShardedEngine._prepare`

    def synchronize_if_due(self, step: int) -> None:
        if self.is_due(step) and self.context.device.type != "cpu":
            torch.accelerator.synchronize(self.context.device)

    def _acquire(self, step: int) -> Any:
        return step

    def _meta(self, view: StateView) -> dict[str, Any]:
        """This rank's host state together with its run, world size and rank."""
        return {"of": self._identity(), "state": view.meta}

    def _identity(self) -> dict[str, Any]:
        context = self.context
        return {"run": context.run_hash, "world_size": context.world_size, "rank": context.rank}

    # --- the fate of a checkpoint -------------------------------------------------------------------------

    def _record_commit(self, step: int) -> None:
        """Record that the checkpoint of `step` is complete, and apply the retention. Acts on rank 0 only."""
        if self.context.rank == 0:
            self.context.recorder.event("committed", s=step)
            self._retain(self.context.keep, halfway=lambda: self.context.reached("retention", step))

    def _finish_save(
        self,
        step: int,
        agreement: Agreement,
        fault: str | None,
        partial: Path,
        publish: Callable[[], None] = lambda: None,
    ) -> bool:
        """Publish the save of `step` or give it up, alike on all ranks. Returns True if it is published.

        fault: why this rank could not write its part; None if it could. partial: the folder that a failed save leaves.
        publish: makes the checkpoint complete; called on rank 0 after every rank has written its part; may raise
            OSError.
        """
        try:
            verdict = self._verdict(step, agreement, fault, publish)
        except AgreementError as error:
            self._give_up(step, str(error), None)  # a late rank may still be writing
            return False
        if verdict is None:
            self._record_commit(step)
        else:
            self._give_up(step, verdict, partial)
        return verdict is None

    def _verdict(self, step: int, agreement: Agreement, fault: str | None, publish: Callable[[], None]) -> str | None:
        """None if every rank has written its part, else the reason for giving the checkpoint up. Rank 0 decides."""

        def judge(faults: list[str | None]) -> str | None:
            verdict = next((f for f in faults if f is not None), None)
            try:
                if verdict is None:
                    publish()
            except OSError as error:
                verdict = f"rename: {error.strerror}"
            return verdict

        decided: str | None = agreement.decide(f"written/{step}", fault, judge)
        return decided

    def _give_up(self, step: int, reason: str, partial: Path | None) -> None:
        """Record that the checkpoint of `step` failed on some rank, and remove `partial` on rank 0.

        partial: the folder that the save left; None if a rank may still be writing there.
        """
        # Removing it frees the space on a full disk.
        self.context.recorder.event("persist_failed", s=step, reason=reason)
        if self.context.rank == 0 and partial is not None and partial.exists():
            shutil.rmtree(partial)

    def _remove_old_checkpoints(self) -> None:
        if self.context.rank == 0:
            self._retain(1)

    def _complete_steps(self) -> list[int]:
        root = self.context.root
        return [step for step in list_steps(root) if self._is_complete(step_folder(root, step))]

    def _retain(self, keep: int, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove all but the newest `keep` complete checkpoints. The newest one always stays.

        halfway: called when a checkpoint is withdrawn but its files still exist.
        """
        for step in self._complete_steps()[:-keep]:
            self._remove(step_folder(self.context.root, step), halfway)
            self.context.recorder.event("removed", s=step)

    def _remove(self, folder: Path, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove a checkpoint. At no instant is it complete with files missing, because it is renamed first."""
        going = folder.with_name(f"removing-{folder.name}")
        folder.rename(going)
        halfway()
        shutil.rmtree(going)

    # --- restore ------------------------------------------------------------------------------------------

    def _restore(self) -> RestoreResult:
        agreement = self.context.agree()
        seen = agreement.exchange("restore/complete", self._complete_steps())
        step: int = max(set(seen[0]).intersection(*seen[1:]), default=0)
        if step > 0:
            self._load_checkpoint(step)
        self._remove_partials(agreement, newest=step)
        return RestoreResult(step=step)

    def _load_checkpoint(self, step: int) -> None:
        folder = step_folder(self.context.root, step)
        view = self.context.state.view(step)
        meta = self._load(folder, step, view)
        if meta["of"] != self._identity():
            raise ForeignCheckpointError(f"{folder}: found {json.dumps(meta['of'])}, expected {self._identity()}")
        self.context.state.load_host_state(meta["state"], view.host)

    def _remove_partials(self, agreement: Agreement, *, newest: int) -> None:
        """Remove the incomplete folders of the dead attempt, and checkpoints newer than step `newest`."""
        # The coming steps write to the same folder names again.
        root = self.context.root
        if self.context.rank == 0:
            for folder in [p for p in root.iterdir() if p.name.startswith(("partial-", "removing-"))]:
                shutil.rmtree(folder)
            for step in list_steps(root):
                if step > newest or not self._is_complete(step_folder(root, step)):
                    self._remove(step_folder(root, step))
        agreement.exchange("restore/swept", None)  # no rank may write before rank 0 has removed the folders


def make_own_group() -> dist.ProcessGroup:
    """Create a gloo process group of all ranks for a library's own collectives."""
    # The library may call them in another thread, where they must not mix with training's. They exchange Python
    # objects, which need no GPU.
    group = dist.new_group(backend="gloo")
    assert isinstance(group, dist.ProcessGroup)  # every rank is a member
    return group


def copy_into_live(live: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Copy a checkpoint's tensors into live ones, in place.

    Raises:
        ForeignCheckpointError: the checkpoint belongs to another model.
    """
    check_same_model(get_tensor_specs(live), get_tensor_specs(saved), folder)
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def first_line(error: BaseException) -> str:
    """One line of at most 300 characters that describes `error`.

    It is the text of an OSError in the cause chain, if there is one. If the message is a traceback forwarded by another
    process, it is the traceback's OSError line, else its last line. Otherwise it is the first line of the message.
    """
    # torch hides the OSError of a failed write behind an error about an unexpected file position.
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.strerror:
            return behind.strerror
        behind = behind.__cause__ or behind.__context__
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Traceback (most recent call last)" in lines[0]:
        return next((line for line in lines if line.startswith("OSError: ")), lines[-1])[:300]
    return lines[0][:300]
