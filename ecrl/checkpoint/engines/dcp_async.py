"""`dcp-async`: PyTorch Distributed Checkpoint's `async_save`: copy while training waits, write in a thread.

It uses the default settings: each copy goes into new pageable memory.
"""

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save

from ecrl.checkpoint.engine import EnginePlugin
from ecrl.checkpoint.external.background import BackgroundEngine
from ecrl.checkpoint.external.dcp_format import DcpEngine


class DcpAsync(BackgroundEngine, DcpEngine):
    """`dcp.async_save` with the thread checkpointer."""

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)
        self._idle.clear()
        stager = RecordingStager(lambda: self.context.recorder.event("staged", s=ticket))
        response = async_save(
            self._build_saved_dict(ticket),
            storage_writer=self._writer(ticket),
            planner=self._planner(ticket),
            async_stager=stager,
            process_group=self._group,
        )
        assert isinstance(response, Future)  # only stagers that copy in the background return the other type
        response.add_done_callback(lambda done: self._finish(ticket, stager, done))

    def _release(self, ticket: int) -> None:
        pass  # the thread has already started

    def _finish(self, step: int, stager: DefaultStager, done: "Future[Any]") -> None:
        """Record the result of the save. Runs in the saving thread."""
        with self._capture_errors():
            stager.close()
            error = done.exception()
            if error is None:
                self._record_commit(step)
            elif isinstance(error, CheckpointException):
                self._handle_failure(step, error)
            else:
                raise error

    def _drain(self) -> None:
        self._wait_for_previous()
        super()._drain()


class RecordingStager(DefaultStager):
    """The default stager of `async_save` (an inline copy into pageable memory). Calls `staged` after each copy."""

    def __init__(self, staged: Callable[[], None]) -> None:
        super().__init__(StagingOptions(False, False, False, False))
        self._staged = staged

    def stage(self, state_dict: dict[str, Any], **kwargs: Any) -> dict[str, Any] | Future[dict[str, Any]]:
        copy = super().stage(state_dict, **kwargs)
        self._staged()
        return copy


PLUGIN = EnginePlugin(
    description="PyTorch Distributed Checkpoint async_save: copy while training waits, write in a thread",
    make=DcpAsync,
    durable=False,
    verified=False,
    exact=True,
    sharded=True,
    ignores_max_inflight=True,
    limits="files fsynced, their folder not; one in flight; retention is ecrl's",
    format="dcp",
    options={
        "thread_count": {
            "type": "int",
            "default": 1,
            "legacy": 1,
            "ge": 1,
            "help": "threads that write this rank's part, each into a file of its own (DCP's FileSystemWriter)",
        },
    },
)
