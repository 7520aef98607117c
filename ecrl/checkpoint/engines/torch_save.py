"""`torch-save`: the way of plain training scripts: rank 0 saves model and optimizer while training waits.

    step-00000400/{state.pt, rank-<rank>.pt}

state.pt holds the replicated state; rank-<r>.pt holds a rank's buffers and generators. The ranks write into
`partial-*`, which is renamed after every rank has reported that its file is written. As in such scripts, nothing is
flushed to the disk unless the option `fsync` is set.
"""

import os
from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.engine import EngineContext, EnginePlugin
from ecrl.checkpoint.external.base import ExternalEngine, copy_into_live, first_line
from ecrl.checkpoint.state_view import StateView
from ecrl.records.clock import now_ns
from ecrl.storage.atomic import fsync_dir
from ecrl.storage.commit import step_folder

_STATE_FILE = "state.pt"


class TorchSave(ExternalEngine):
    """`torch.save` of the live tensors, inline, on the training thread."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._fsync: bool = context.options["fsync"]

    def _prepare(self) -> None:
        super()._prepare()
        self._agreement = self.context.agree()

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)  # no copy is made: `_release` writes the live tensors

    def _release(self, ticket: int) -> None:
        partial = self.context.root / f"partial-{ticket:08d}"

        def publish() -> None:
            self.context.reached("commit", ticket)
            partial.rename(step_folder(self.context.root, ticket))
            if self._fsync:
                fsync_dir(self.context.root)

        self._finish_save(ticket, self._agreement, self._write_files(ticket, partial), partial, publish)

    def _write_files(self, step: int, partial: Path) -> str | None:
        """Write this rank's files. Returns None, or the reason for the failure."""
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
            if self._fsync:
                for name in contents:
                    _flush(partial / name)
                fsync_dir(partial)
            written = sum((partial / name).stat().st_size for name in contents)
        except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
            return f"rank {rank}: {first_line(error)}"
        self.context.recorder.event("persisted", s=step, t0=begun, bytes=written)
        return None

    def _drain(self) -> None:
        pass  # nothing is ever in flight

    def _is_complete(self, folder: Path) -> bool:
        return folder.is_dir()  # the folder gets this name after every rank has written

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        own = _read(folder / _rank_file(self.context.rank))
        copy_into_live(view.local | view.host, own["tensors"], folder)
        self.context.reached("restore", step)
        copy_into_live(view.replicated, _read(folder / _STATE_FILE), folder)
        meta: dict[str, Any] = own["meta"]
        return meta


def _flush(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _rank_file(rank: int) -> str:
    return f"rank-{rank}.pt"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content


PLUGIN = EnginePlugin(
    description="torch.save by rank 0 while training waits; a rename publishes, nothing is fsynced",
    make=TorchSave,
    durable=False,
    verified=False,
    exact=True,
    ignores_max_inflight=True,
    limits="retention is ecrl's; nothing in flight",
    format={"complete": "rank-0.pt"},  # the folder gets its final name last
    options={
        "fsync": {
            "type": "bool",
            "default": False,
            "legacy": False,
            "help": "flush the files and the folders that name them to the disk before the checkpoint counts",
        },
    },
)
