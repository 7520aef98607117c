"""`torchsnapshot`: torchsnapshot's `async_take`: copy while training waits, write in a thread.

    step-00000400/{batched/*, replicated/**, <rank>/own/**, .snapshot_metadata}

The library's own `Snapshot.restore` restores. The library does not limit the number of snapshots in flight and never
removes one; ecrl allows one at a time and does the retention. Nothing is fsynced or digested.

`_copy_unsafe_tensors` and `Part` work around three defects of torchsnapshot 0.1.0, each found by a test:

- CPU tensors of one slab (128 MiB) or more are not copied before `async_take` returns, so training writes into the
  snapshot.
- The last element of an odd number of bfloat16 elements is lost.
- A tensor without elements makes the save fail.
"""

import json
import threading
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from ecrl.checkpoint.engine import EngineContext, EnginePlugin
from ecrl.checkpoint.external.background import BackgroundEngine
from ecrl.checkpoint.external.base import first_line, make_own_group
from ecrl.checkpoint.state_view import ForeignCheckpointError, StateView, check_same_model, get_tensor_specs
from ecrl.records.clock import now_ns
from ecrl.storage.commit import step_folder

with warnings.catch_warnings():  # the import scripts three helper functions
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    import torchsnapshot.storage_plugin
    from torchsnapshot import Snapshot
    from torchsnapshot.dist_store import LinearBarrier
    from torchsnapshot.io_types import WriteIO
    from torchsnapshot.knobs import get_slab_size_threshold_bytes
    from torchsnapshot.snapshot import PendingSnapshot
    from torchsnapshot.storage_plugins.fs import FSStoragePlugin

EXTRA = ("peers", "torchsnapshot")
_COMPLETE = ".snapshot_metadata"  # written last, by rank 0, once every rank has written
_REPLICATED, _OWN = "replicated", "own"
_MONITOR = "ecrl.watch"  # the storage option by which a `WriteMonitor` reaches the storage


class TorchSnapshot(BackgroundEngine):
    """`Snapshot.async_take` with its defaults. Replicated state is marked as such, so the ranks share its writing."""

    def _prepare(self) -> None:
        super()._prepare()
        self._agreement = self.context.agree()
        self._group = make_own_group()

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)
        self._idle.clear()
        folder, watch = step_folder(self.context.root, ticket), WriteMonitor(ticket, self.context)
        fault, pending = None, None
        try:
            pending = Snapshot.async_take(
                str(folder),
                self._build_saved_dict(ticket),
                pg=self._group,
                replicated=[f"{_REPLICATED}/**"],
                storage_options={_MONITOR: watch},
            )
        except OSError as error:
            # The library writes while it still copies, but does not report failures of that part: the other ranks
            # would wait in this barrier for half an hour. It reports failures after the copy by the same call.
            fault = f"rank {self.context.rank}: {first_line(error)}"
            self._barrier(folder).report_error(fault)
        self.context.recorder.event("staged", s=ticket)
        threading.Thread(target=self._finish, args=(ticket, pending, watch, fault), name="ecrl-finish").start()

    def _barrier(self, folder: Path) -> LinearBarrier:
        """The barrier of the pending snapshot into `folder`."""
        store = dist.distributed_c10d._get_default_store()
        return LinearBarrier(f"torchsnapshot_{folder}", store, self.context.rank, self.context.world_size, 0)

    def _release(self, ticket: int) -> None:
        pass  # the thread has already started

    def _finish(self, step: int, pending: PendingSnapshot | None, watch: "WriteMonitor", fault: str | None) -> None:
        """Wait for the library's thread, then agree on the save's result with the other ranks. Runs in a thread."""
        with self._capture_errors():
            if pending is not None:
                try:
                    pending.wait()
                except RuntimeError:
                    fault = f"rank {self.context.rank}: {first_line(pending.exc_info[1])}"
                else:
                    self.context.recorder.event("persisted", s=step, t0=watch.begun, t=watch.ended, bytes=watch.bytes)
            self._finish_save(step, self._agreement, fault, step_folder(self.context.root, step))

    def _build_saved_dict(self, step: int) -> dict[str, "Part"]:
        view = self.context.state.view(step)
        meta = json.dumps(self._meta(view))  # one text: the library would store each element of a list separately
        replicated, own = _copy_unsafe_tensors(view.replicated), _copy_unsafe_tensors(view.local | view.host)
        return {_REPLICATED: Part(replicated), _OWN: Part(own, meta)}

    def _drain(self) -> None:
        self._wait_for_previous()
        dist.destroy_process_group(self._group)

    def _is_complete(self, folder: Path) -> bool:
        return (folder / _COMPLETE).is_file()

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        snapshot = Snapshot(str(folder), pg=self._group)
        if (found := snapshot.metadata.world_size) != self.context.world_size:
            raise ForeignCheckpointError(f"{folder}: found world size {found}, expected {self.context.world_size}")
        own, replicated = Part(view.local | view.host, ""), Part(view.replicated)
        snapshot.restore({_OWN: own})
        own.check(folder)
        self.context.reached("restore", step)
        snapshot.restore({_REPLICATED: replicated})
        replicated.check(folder)
        meta: dict[str, Any] = json.loads(own.meta or "{}")
        return meta


def _copy_unsafe_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Replace CPU tensors of one slab or more by copies, because the library does not copy them."""
    # The library intends to copy them, but compares a text with an enum.
    slab_bytes = get_slab_size_threshold_bytes()
    return {n: t.clone() if t.device.type == "cpu" and t.nbytes >= slab_bytes else t for n, t in tensors.items()}


class Part:
    """Tensors and an optional text as the library's `Stateful`. Loads in place.

    bfloat16 tensors are stored as int16. Tensors without elements are left out.
    """

    def __init__(self, tensors: dict[str, torch.Tensor], meta: str | None = None) -> None:
        self._tensors = {
            name: tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
            for name, tensor in tensors.items()
            if tensor.numel()
        }
        self._read: dict[str, torch.Tensor] = {}
        self.meta = meta

    def state_dict(self) -> dict[str, Any]:
        """The state to save, or the live state to load into."""
        return {"tensors": self._tensors} | ({} if self.meta is None else {"meta": self.meta})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the loaded state. The library has read fitting tensors into the live ones."""
        self._read, self.meta = state_dict.get("tensors", {}), state_dict.get("meta")

    def check(self, folder: Path) -> None:
        """Check that every tensor was read into the live one.

        Raises:
            ForeignCheckpointError: the checkpoint belongs to another model.
        """
        # The library reads a tensor that does not fit into a new tensor, without an error.
        check_same_model(get_tensor_specs(self._tensors), get_tensor_specs(self._read), folder)
        for name, tensor in self._tensors.items():
            if self._read[name] is not tensor:
                raise ForeignCheckpointError(f"{folder}: of another model, {name} was not read into the live tensor")


class WriteMonitor:
    """Observes the writes of one save: its phases, and the time and size in bytes of this rank's part."""

    def __init__(self, step: int, context: EngineContext) -> None:
        self.begun = self.ended = now_ns()
        self.bytes = 0
        self._step, self._context = step, context

    def begin_write(self, name: str) -> None:
        """Call before each write."""
        if name == _COMPLETE:
            self._context.reached("commit", self._step)

    def end_write(self, name: str, count: int) -> None:
        """Call after each write, with its size `count` in bytes."""
        if name == _COMPLETE:
            return
        first = self.bytes == 0
        self.bytes, self.ended = self.bytes + count, now_ns()
        if first:
            self._context.reached("persist", self._step)


class MonitoredStorage(FSStoragePlugin):  # type: ignore[misc]  # the library has no types
    """The library's own file storage, which calls the `WriteMonitor` in its options around each write."""

    def __init__(self, root: str, storage_options: dict[str, Any] | None = None) -> None:
        super().__init__(root, storage_options)
        self._watch: WriteMonitor | None = (storage_options or {}).get(_MONITOR)

    async def write(self, write_io: WriteIO) -> None:
        """Write like the library, and notify the monitor before and after."""
        if self._watch is not None:
            self._watch.begin_write(write_io.path)
        await super().write(write_io)
        if self._watch is not None:
            self._watch.end_write(write_io.path, len(write_io.buf))


# The library selects custom storages by an installed package's entry point. This one only adds notifications, so it
# replaces the library's class.
torchsnapshot.storage_plugin.FSStoragePlugin = MonitoredStorage

PLUGIN = EnginePlugin(
    description="torchsnapshot's async_take: copy while training waits, write in a thread",
    make=TorchSnapshot,
    durable=False,
    verified=False,
    exact=True,
    ignores_max_inflight=True,
    limits="no bound in flight (here: one); retention is ecrl's",
    format={"complete": ".snapshot_metadata", "parts": ("batched", "replicated", "[0-9]*/own")},
)
