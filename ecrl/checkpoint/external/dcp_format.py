"""State in PyTorch Distributed Checkpoint's format: keys, reading, and descriptions of its failures.

    step-00000400/{__<rank>_<thread>.distcp, .metadata}

Replicated tensors have one key for all ranks: DCP writes each once, on the rank with the least to write. A rank's
buffers and generators have separate keys (`rank<r>/...`); otherwise DCP would keep one rank's for all ranks. DCP
fsyncs its files but not the folder that names them.
"""

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from ecrl.checkpoint.engine import EngineContext
from ecrl.checkpoint.external.base import ExternalEngine, first_line, make_own_group
from ecrl.checkpoint.state_view import StateView
from ecrl.records.clock import now_ns
from ecrl.storage.commit import step_folder

_COMPLETE = ".metadata"  # written last, by rank 0, once every rank has written


class DcpEngine(ExternalEngine):
    """The common part of `dcp` and `dcp-async`."""

    def _prepare(self) -> None:
        super()._prepare()
        self._group = make_own_group()

    def _folder(self, step: int) -> Path:
        return step_folder(self.context.root, step)

    def _build_state_dict(self, view: StateView) -> dict[str, Any]:
        own = {self._own_key(name): tensor for name, tensor in (view.local | view.host).items()}
        return view.replicated | own | {name: shard.whole for name, shard in view.shards.items()}

    def _own_key(self, name: str) -> str:
        return f"rank{self.context.rank}/{name}"

    def _build_saved_dict(self, step: int) -> dict[str, Any]:
        """The dictionary to save, with the metadata as one text."""
        # DCP would store each element of a list under its own key.
        view = self.context.state.view(step)
        return self._build_state_dict(view) | {self._own_key("meta"): json.dumps(self._meta(view))}

    def _writer(self, step: int) -> "RecordingWriter":
        return RecordingWriter(self._folder(step), step, self.context)

    def _planner(self, step: int) -> "HalfwayPlanner":
        return HalfwayPlanner(lambda: self.context.reached("persist", step))

    def _handle_failure(self, step: int, error: CheckpointException) -> None:
        """Give up the checkpoint of `step`, which failed with `error`."""
        # DCP raises the failure of any rank on all ranks, after all ranks have ended their part.
        self._give_up(step, describe_failure(error), self._folder(step))

    def _drain(self) -> None:
        dist.destroy_process_group(self._group)

    def _is_complete(self, folder: Path) -> bool:
        return (folder / _COMPLETE).is_file()

    def _load(self, folder: Path, step: int, view: StateView) -> dict[str, Any]:
        wanted = self._build_state_dict(view) | {self._own_key("meta"): ""}
        load(wanted, checkpoint_id=folder, process_group=self._group)  # in place, except for the text
        meta: dict[str, Any] = json.loads(wanted[self._own_key("meta")])
        return meta


class RecordingWriter(FileSystemWriter):
    """DCP's own writer. Records `persisted` when this rank's part is written and fsynced."""

    def __init__(self, folder: Path, step: int, context: EngineContext) -> None:
        super().__init__(folder, thread_count=context.options["thread_count"])
        self._step, self._context = step, context

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        self._begun = now_ns()  # the first call of a save, after any copy
        super().set_up_storage_writer(is_coordinator, *args, **kwargs)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> "Future[list[WriteResult]]":
        written = super().write_data(plan, planner)
        count = sum(result.size_in_bytes for result in written.wait())
        self._context.recorder.event("persisted", s=self._step, t0=self._begun, bytes=count)
        return written

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        self._context.reached("commit", self._step)
        super().finish(metadata, results)


class HalfwayPlanner(DefaultSavePlanner):
    """DCP's own planner with its defaults. Calls `halfway` when half of this rank's items are written."""

    def __init__(self, halfway: Callable[[], None]) -> None:
        super().__init__()
        self._halfway = halfway
        self._half = 0
        self._begun = itertools.count(1)  # several threads use it

    def finish_plan(self, new_plan: SavePlan) -> SavePlan:
        self._half = (len(new_plan.items) + 1) // 2
        return super().finish_plan(new_plan)

    def resolve_data(self, write_item: WriteItem) -> "torch.Tensor | io.BytesIO":
        if next(self._begun) == self._half:
            self._halfway()
        return super().resolve_data(write_item)


def describe_failure(error: CheckpointException) -> str:
    """The first rank's failure, in one line."""
    rank, (cause, _trace) = min(error.failures.items(), key=lambda item: item[0])
    return f"rank {rank}: {type(cause).__name__}: {first_line(cause)}"
