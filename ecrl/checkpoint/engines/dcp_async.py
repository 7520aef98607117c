"""`dcp-async`: PyTorch Distributed Checkpoint's `async_save`: copy while training waits, write in a thread.

Default settings: the copy goes into fresh pageable memory. The previous save is awaited before the next one,
as torchtitan does, so at most one is in flight whatever `max_inflight` allows.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import async_save

from ecrl.checkpoint.dcp_format import DcpEngine
from ecrl.checkpoint.engine import EngineContext, EnginePlugin


class DcpAsync(DcpEngine):
    """`dcp.async_save` with the thread checkpointer."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._idle = threading.Event()
        self._idle.set()
        self._bug: BaseException | None = None

    def _acquire(self, step: int) -> int:
        self._await_previous()
        return step

    def _await_previous(self) -> None:
        # not the future's own result(): it returns before the callback below has run
        self._idle.wait()
        if self._bug is not None:
            raise RuntimeError("the background save ended") from self._bug

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)
        self._idle.clear()
        stager = RecordingStager(lambda: self.context.recorder.event("staged", s=ticket))
        response = async_save(
            self._to_save(ticket),
            storage_writer=self._writer(ticket),
            planner=self._planner(ticket),
            async_stager=stager,
            process_group=self._group,
        )
        assert isinstance(response, Future)  # the other kind comes from stagers that copy in the background
        response.add_done_callback(lambda done: self._finish(ticket, stager, done))

    def _release(self, ticket: int) -> None:
        pass  # the thread is at work already

    def _finish(self, step: int, stager: DefaultStager, done: "Future[Any]") -> None:
        """In the saving thread: what became of the save. Errors of ours end the run at the next save or drain."""
        try:
            stager.close()
            error = done.exception()
            if error is None:
                self._published(step)
            elif isinstance(error, CheckpointException):
                self._failed(step, error)
            else:
                self._bug = error
        except BaseException as bug:
            self._bug = bug
        finally:
            self._idle.set()

    def _drain(self) -> None:
        self._await_previous()
        super()._drain()


class RecordingStager(DefaultStager):
    """The stager that `async_save` makes if given none (a copy into pageable memory, inline), and a record of it."""

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
)
