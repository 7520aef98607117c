"""`torch-save`: what a training script does by hand: rank 0 saves model and optimizer, training waits.

    step-00000400/{state.pt, rank-<rank>.pt}

state.pt is the replicated state; rank-<r>.pt a rank's buffers and generators. Written into `partial-*`, which
is renamed once every rank has said that its file is written. Nothing is flushed to the disk: scripts do not.
"""

from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.agreement import AgreementError
from ecrl.checkpoint.codec import StateView
from ecrl.checkpoint.engine import EnginePlugin
from ecrl.checkpoint.peer import ForeignCheckpointError, PeerEngine
from ecrl.records.clock import now_ns
from ecrl.storage.commit import step_folder

_STATE_FILE = "state.pt"


class TorchSave(PeerEngine):
    """`torch.save` of the live tensors, inline, on the training thread."""

    def _prepare(self) -> None:
        super()._prepare()
        self._agreement = self.context.agree()

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)  # the live tensors are written, no copy is made

    def _release(self, ticket: int) -> None:
        partial = self.context.root / f"partial-{ticket:08d}"
        try:
            verdict = self._verdict(ticket, partial, self._written(ticket, partial))
        except AgreementError as error:
            self._given_up(ticket, str(error), None)  # a rank that is late may still be writing
            return
        if verdict is None:
            self._published(ticket)
        else:
            self._given_up(ticket, verdict, partial)

    def _written(self, step: int, partial: Path) -> str | None:
        """Write this rank's files; the reason if that failed."""
        view, rank = self.context.state.view(step), self.context.rank
        begun = now_ns()
        contents: dict[str, Any] = {_rank_file(rank): {"tensors": view.local | view.host, "meta": self._meta(view)}}
        if rank == 0:
            contents[_STATE_FILE] = view.replicated
        try:
            partial.mkdir(exist_ok=True)
            for place, (name, content) in enumerate(contents.items()):
                torch.save(content, partial / name)
                if place == 0:
                    self.context.reached("persist", step)
            written = sum((partial / name).stat().st_size for name in contents)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            return f"rank {rank}: {_first_line(error)}"
        self.context.recorder.event("persisted", s=step, t0=begun, bytes=written)
        return None

    def _verdict(self, step: int, partial: Path, fault: str | None) -> str | None:
        """None once the checkpoint has its name; else why it was given up. Rank 0 decides for all."""
        self._agreement.say(f"written/{step}", fault)
        if self.context.rank != 0:
            # rank 0 may use up a whole timeout waiting for the slowest rank before it can say so
            heard: str | None = self._agreement.hear(f"verdict/{step}", 0, timeouts=2)
            return heard
        try:
            faults = [self._agreement.hear(f"written/{step}", rank) for rank in range(self.context.world_size)]
            verdict = next((f for f in faults if f is not None), None)
            if verdict is None:
                self.context.reached("commit", step)
                partial.rename(step_folder(self.context.root, step))
        except AgreementError as error:
            self._agreement.say(f"verdict/{step}", str(error))
            raise
        except OSError as error:
            verdict = f"rename: {error.strerror}"
        self._agreement.say(f"verdict/{step}", verdict)
        return verdict

    def _drain(self) -> None:
        pass  # nothing is ever in flight

    def _complete(self, folder: Path) -> bool:
        return folder.is_dir()  # it got its name after every rank had written

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        own = _read(folder / _rank_file(self.context.rank))
        _copy_in(view.local | view.host, own["tensors"], folder)
        self.context.reached("restore", step)
        _copy_in(view.replicated, _read(folder / _STATE_FILE), folder)
        meta: dict[str, Any] = own["meta"]
        return meta


def _rank_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


def _copy_in(live: dict[str, torch.Tensor], saved: dict[str, torch.Tensor], folder: Path) -> None:
    if differing := sorted(live.keys() ^ saved.keys()):
        raise ForeignCheckpointError(f"{folder}: of another model, {differing[0]} is on one side only")
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


PLUGIN = EnginePlugin(
    description="torch.save by rank 0 while training waits; a rename publishes, nothing is fsynced",
    make=TorchSave,
    durable=False,
    verified=False,
    exact=True,
)
