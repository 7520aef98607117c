"""`torch-checkpointing`: torch_checkpointing's asynchronous save: copy in a thread, write in a process of its own.

    step-00000400/{state.pt, own_<rank>.pt, meta_<rank>.json}

state.pt is the replicated state, written by rank 0; own_<r>.pt a rank's buffers and generators. The library writes
into `partial-*` and renames that after a barrier of all ranks' writers. Its copy into shared memory goes on under
the next forward and backward; its lock keeps `optimizer.step` out until it is done. A forward changes buffers,
which the lock does not guard: they are cloned at the call. Nothing is fsynced and nothing digested; one save is in
flight, and a writer that fails does not go on: all ranks start new ones then. Retention is ecrl's.
"""

import contextlib
import math
import multiprocessing
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from torch_checkpointing import CheckpointManager, CheckpointWriterConfig, ItemSpec
from torch_checkpointing.checkpoint_layout import JsonSerialization, LayoutInfo, TorchSerialization
from torch_checkpointing.checkpoint_process import CheckpointProcessConfig
from torch_checkpointing.checkpoint_writer import CallbackArgs
from torch_checkpointing.config import AsyncCheckpointSaverConfig
from torch_checkpointing.storage.filesystem import LocalFileSystemStorage, LocalFileSystemStorageConfig

from ecrl.checkpoint.engine import EngineContext, EnginePlugin
from ecrl.checkpoint.external.background import BackgroundEngine
from ecrl.checkpoint.external.base import copy_into_live, first_line
from ecrl.checkpoint.state_view import ForeignCheckpointError, StateView
from ecrl.records.clock import now_ns
from ecrl.storage.commit import step_folder

EXTRA = ("peers", "torch_checkpointing")
_PARTIAL = "partial-"  # what a restart sweeps away
_ITEMS = {
    "state": ItemSpec(layout=LayoutInfo("state.pt", TorchSerialization()), required=False),
    "own": ItemSpec(layout=LayoutInfo("own_{rank}.pt", TorchSerialization()), required=False),
    "meta": ItemSpec(layout=LayoutInfo("meta_{rank}.json", JsonSerialization()), requires_copy=False, required=False),
}


class TorchCheckpointing(BackgroundEngine):
    """`CheckpointManager` with its asynchronous defaults, used as its documents say."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._step = 0  # of the save in flight
        self._ready = threading.Event()

    def _prepare(self) -> None:
        super()._prepare()
        self._agreement = self.context.agree()
        self._open()
        self._manager.prewarm_staging(self._payload(self.context.state.view(0)))
        if not self._ready.wait(self._agreement.timeout_s):  # else the first save would wait for an interpreter
            raise RuntimeError(f"the writer process did not start within {self._agreement.timeout_s:g} s")

    def _open(self) -> None:
        """Start a writer process, and the thread that hears what it tells."""
        ours, writers = multiprocessing.get_context("spawn").Pipe()
        self._told = writers  # kept: the writer inherits it when it starts, which takes a second
        patience_s = math.ceil(self._agreement.timeout_s)
        config = CheckpointManager.Config(
            items=_ITEMS,
            default=None,
            save=AsyncCheckpointSaverConfig(
                writer_config=CheckpointWriterConfig(
                    checkpoint_write_barrier_timeout_sec=patience_s, temp_dir_prefix=_PARTIAL
                ),
                process_config=CheckpointProcessConfig(subprocess_init_timeout_secs=patience_s),
            ),
            subprocess_init_fn=_report_ready,
            subprocess_init_args=(writers,),
            # Its default opens files for direct I/O where the disk lets it, and then writes unaligned: every save
            # fails on disks that mind (EINVAL; it falls back only where opening fails).
            storage_config=ReportingStorageConfig(use_direct_io=False, told=writers),
            pre_finalize_callback=_report_written,
        )
        self._manager = config.build()
        self._ready.clear()
        self._listener = threading.Thread(target=self._listen, args=(ours,), name="ecrl-writer", daemon=True)
        self._listener.start()

    def _close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # raises a failed write again, which is on record
            self._manager.close()
        self._told.send(None)
        self._listener.join()
        self._told.close()

    def _payload(self, view: StateView) -> dict[str, Any]:
        own = {name: tensor.clone() for name, tensor in view.local.items()} | view.host
        payload = {"own": own, "meta": self._meta(view)}
        return payload | ({"state": view.replicated} if self.context.rank == 0 else {})

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)
        self._idle.clear()
        self._step, self._begun = ticket, now_ns()
        folder = step_folder(self.context.root, ticket)
        written = self._manager.save(str(folder), self._payload(self.context.state.view(ticket)))
        threading.Thread(target=self._finish, args=(ticket, written), name="ecrl-finish").start()

    def _release(self, ticket: int) -> None:
        pass  # its threads are at work already

    def before_update(self, step: int) -> None:
        copying = self._manager.lock()
        if copying.acquire(blocking=False):
            copying.release()
            return
        begun = now_ns()
        with copying:  # no other copy begins before this thread asks for one, so it need not be held any longer
            self.context.recorder.event("fence", s=step, name="before_update", t0=begun)

    def _finish(self, step: int, written: "Future[Any]") -> None:
        """In a thread: wait for the library's, then agree on what became of the save."""
        with self._capture_errors():
            with self._manager.lock():
                self.context.recorder.event("staged", s=step)
            error = written.exception()
            fault = None if error is None else f"rank {self.context.rank}: {first_line(error)}"
            partial = step_folder(self.context.root, step)
            partial = partial.with_name(_PARTIAL + partial.name)
            if not self._finish_save(step, self._agreement, fault, partial):
                self._close()
                self._open()

    def _listen(self, writer: Connection) -> None:
        """In a thread: answer what the writer tells, each at its place in the save; None ends it."""
        while (told := writer.recv()) is not None:
            phase, count = told
            if phase == "ready":
                self._ready.set()
            elif phase == "persisted":
                self.context.recorder.event("persisted", s=self._step, t0=self._begun, bytes=count)
            else:
                self.context.reached(phase, self._step)
            writer.send(None)
        writer.close()

    def _drain(self) -> None:
        self._wait_for_previous()

    def _stop_processes(self) -> None:
        self._close()

    def _is_complete(self, folder: Path) -> bool:
        return folder.is_dir()  # it got its name after every rank had written

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        # None: all that the file holds. Given the live tensors, it would pass over those of another model.
        try:
            loaded = self._manager.load(folder, {"own": None, "meta": None}, map_location="cpu", strict=True)
        except FileNotFoundError as error:
            raise ForeignCheckpointError(f"{folder}: nothing of rank {self.context.rank}") from error
        copy_into_live(view.local | view.host, loaded["own"], folder)
        self.context.reached("restore", step)
        state = self._manager.load(folder, {"state": None}, map_location="cpu", strict=True)
        copy_into_live(view.replicated, state["state"], folder)
        meta: dict[str, Any] = loaded["meta"]
        return meta


@dataclass
class ReportingStorageConfig(LocalFileSystemStorageConfig):  # type: ignore[misc]  # the library is not checked
    """Storage of files with its defaults, whose writer tells the trainer what it does. told: the writer's end."""

    told: Connection | None = None

    def create_storage(self) -> "ReportingStorage":
        """In the writer and, to read, in the trainer."""
        return ReportingStorage(self)


class ReportingStorage(LocalFileSystemStorage):  # type: ignore[misc]  # the library is not checked
    """In the writer process: tells, and goes on when it was heard, since a failure may be meant to strike there."""

    def __init__(self, config: ReportingStorageConfig) -> None:
        super().__init__(config)
        self._told = config.told
        self._written: list[Path] = []

    def report(self, what: str, count: int = 0) -> None:
        """Tell the trainer and wait until it has heard."""
        assert self._told is not None
        self._told.send((what, count))
        self._told.recv()

    def report_written(self) -> None:
        """This rank's files are written."""
        self.report("persisted", sum(path.stat().st_size for path in self._written))
        self._written.clear()

    def get_write_stream(self, path: Path, data: object) -> Any:
        """As the library writes tensors."""
        self._note(path)
        return super().get_write_stream(path, data)

    def write(self, path: Path, data: Any) -> None:
        """As the library writes texts."""
        self._note(path)
        super().write(path, data)

    def _note(self, path: Path) -> None:
        self._written.append(path)
        if len(self._written) == 2:
            self.report("persist")

    def rename(self, src_path: Path, dst_path: Path, **how: Any) -> None:
        """As the library publishes, on rank 0, once every rank has written."""
        self.report("commit")
        super().rename(src_path, dst_path, **how)


def _report_ready(told: Connection) -> None:
    told.send(("ready", 0))
    told.recv()


def _report_written(told: CallbackArgs) -> None:
    told.storage.report_written()


PLUGIN = EnginePlugin(
    description="torch_checkpointing's asynchronous save: copy in a thread, write in a process",
    make=TorchCheckpointing,
    durable=False,
    verified=False,
    exact=True,
    limits="one in flight; buffers cloned by ecrl; retention is ecrl's",
    format={"complete": "meta_0.json"},  # the folder gets its name last
)
