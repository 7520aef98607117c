"""`torch-checkpointing`: torch_checkpointing's asynchronous save: copy in a thread, write in a separate process.

    step-00000400/{state.pt, own_<rank>.pt, meta_<rank>.json}

state.pt holds the replicated state, written by rank 0. own_<r>.pt holds a rank's buffers and generators. The library
writes into `partial-*` and renames that folder after a barrier of all ranks' writers. It copies into shared memory
during the next forward and backward; its lock delays `optimizer.step` until the copy is done. The lock does not
protect buffers, which the forward changes, so ecrl clones them at the save. Nothing is fsynced or digested. One save
is in flight. A failed writer cannot be used again, so all ranks then start new ones. ecrl does the retention.
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
_PARTIAL = "partial-"  # a restart removes these folders
_ITEMS = {
    "state": ItemSpec(layout=LayoutInfo("state.pt", TorchSerialization()), required=False),
    "own": ItemSpec(layout=LayoutInfo("own_{rank}.pt", TorchSerialization()), required=False),
    "meta": ItemSpec(layout=LayoutInfo("meta_{rank}.json", JsonSerialization()), requires_copy=False, required=False),
}


class TorchCheckpointing(BackgroundEngine):
    """`CheckpointManager` with its asynchronous defaults, used as its documentation says."""

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
        """Start a writer process, and the thread that receives its messages."""
        ours, writers = multiprocessing.get_context("spawn").Pipe()
        self._told = writers  # kept open: the writer inherits it when it starts, about a second later
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
            # The default opens files for direct I/O if the disk allows it, and then writes unaligned blocks. Every
            # save fails on disks that refuse those (EINVAL); the library falls back only if opening fails.
            storage_config=ReportingStorageConfig(use_direct_io=False, told=writers),
            pre_finalize_callback=_report_written,
        )
        self._manager = config.build()
        self._ready.clear()
        self._listener = threading.Thread(target=self._listen, args=(ours,), name="ecrl-writer", daemon=True)
        self._listener.start()

    def _close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # raises the error of a failed write again; it is recorded
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
        pass  # the threads have already started

    def before_update(self, step: int) -> None:
        copying = self._manager.lock()
        if copying.acquire(blocking=False):
            copying.release()
            return
        begun = now_ns()
        with copying:  # released at once: no other copy starts before this thread asks for one
            self.context.recorder.event("fence", s=step, name="before_update", t0=begun)

    def _finish(self, step: int, written: "Future[Any]") -> None:
        """Wait for the library's save, then agree on its result with the other ranks. Runs in a thread."""
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
        """Handle and answer each message of the writer. None ends the loop. Runs in a thread."""
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
        return folder.is_dir()  # the folder gets this name after every rank has written

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        # None loads everything in the file. With the live tensors, the library would skip tensors of another model.
        try:
            loaded = self._manager.load(folder, {"own": None, "meta": None}, map_location="cpu", strict=True)
        except FileNotFoundError as error:
            raise ForeignCheckpointError(f"{folder}: holds no data of rank {self.context.rank}") from error
        copy_into_live(view.local | view.host, loaded["own"], folder)
        self.context.reached("restore", step)
        state = self._manager.load(folder, {"state": None}, map_location="cpu", strict=True)
        copy_into_live(view.replicated, state["state"], folder)
        meta: dict[str, Any] = loaded["meta"]
        return meta


@dataclass
class ReportingStorageConfig(LocalFileSystemStorageConfig):  # type: ignore[misc]  # the library is not checked
    """The library's default file storage, which reports its progress to the trainer. told: the writer's pipe end."""

    told: Connection | None = None

    def create_storage(self) -> "ReportingStorage":
        """Create the storage: in the writer process, and in the trainer for reading."""
        return ReportingStorage(self)


class ReportingStorage(LocalFileSystemStorage):  # type: ignore[misc]  # the library is not checked
    """The storage in the writer process. It reports each phase and waits for the answer."""

    def __init__(self, config: ReportingStorageConfig) -> None:
        super().__init__(config)
        self._told = config.told
        self._written: list[Path] = []

    def report(self, what: str, count: int = 0) -> None:
        """Send a message to the trainer and wait for its answer."""
        # The wait lets a planned failure strike at this point of the save.
        assert self._told is not None
        self._told.send((what, count))
        self._told.recv()

    def report_written(self) -> None:
        """Report that this rank's files are written, with their size in bytes."""
        self.report("persisted", sum(path.stat().st_size for path in self._written))
        self._written.clear()

    def get_write_stream(self, path: Path, data: object) -> Any:
        """Write tensors like the library, and count the file."""
        self._note(path)
        return super().get_write_stream(path, data)

    def write(self, path: Path, data: Any) -> None:
        """Write text like the library, and count the file."""
        self._note(path)
        super().write(path, data)

    def _note(self, path: Path) -> None:
        self._written.append(path)
        if len(self._written) == 2:
            self.report("persist")

    def rename(self, src_path: Path, dst_path: Path, **how: Any) -> None:
        """Publish like the library, on rank 0, after every rank has written. Reports `commit` first."""
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
    ignores_max_inflight=True,
    limits="one in flight; buffers cloned by ecrl; retention is ecrl's",
    format={"complete": "meta_0.json"},  # the folder gets its final name last
)
