"""Engines of other formats that save in the background, one checkpoint at a time."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ecrl.checkpoint.engine import EngineContext
from ecrl.checkpoint.external.base import ExternalEngine


class BackgroundEngine(ExternalEngine):
    """Each save waits for the previous one, as in torchtitan: at most one is in flight, whatever `max_inflight` is."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._idle = threading.Event()
        self._idle.set()
        self._bug: BaseException | None = None

    def _acquire(self, step: int) -> Any:
        self._wait_for_previous()
        return step

    def _wait_for_previous(self) -> None:
        self._idle.wait()
        if self._bug is not None:
            raise RuntimeError("the background save ended") from self._bug

    @contextmanager
    def _capture_errors(self) -> Iterator[None]:
        """Mark the save as ended, and keep an error. The next save or drain raises it, which ends the run."""
        try:
            yield
        except BaseException as bug:
            self._bug = bug
        finally:
            self._idle.set()
