"""An observer that several lanes may call at once: one call at a time reaches the one that watches."""

import threading

from ecrl.config.run import RunSpec
from ecrl.launch.runs.progress import Observer, RunProgress, Totals
from ecrl.records.manifest.store import Row
from ecrl.records.schema import Result


class LockedObserver:
    """Passes every call on, under a lock that what is told about is changed under, too."""

    def __init__(self, observer: Observer, lock: threading.RLock) -> None:
        self._observer = observer
        self._lock = lock

    def note(self, text: str) -> None:
        with self._lock:
            self._observer.note(text)

    def suite_started(self, row: Row, totals: Totals) -> None:
        with self._lock:
            self._observer.suite_started(row, totals)

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        with self._lock:
            self._observer.run_started(spec, totals)

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        with self._lock:
            self._observer.run_progress(spec, progress)

    def run_finished(self, spec: RunSpec, result: Result | None, log: str, totals: Totals) -> None:
        with self._lock:
            self._observer.run_finished(spec, result, log, totals)

    def suite_finished(self, row: Row, totals: Totals) -> None:
        with self._lock:
            self._observer.suite_finished(row, totals)
