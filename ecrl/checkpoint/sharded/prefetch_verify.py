"""Verification that starts before the restore, while this rank imports modules and its group forms.

It starts before torch is imported, so this module must not load torch. The load finds the files in the page cache.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from ecrl.records.clock import now_ns
from ecrl.records.recorder import Recorder
from ecrl.storage import commit
from ecrl.storage.commit import Verdict


class PrefetchedVerification:
    """Verdicts on the committed checkpoints in some folders. A thread verifies the newest, starting at construction.

    Create it only when no process writes checkpoints there any more. Records `verified` when the thread is done.
    """

    def __init__(self, roots: Sequence[Path], *, run: str, world_size: int, recorder: Recorder) -> None:
        self._run, self._world_size, self._recorder = run, world_size, recorder
        self._begun: dict[tuple[Path, int], Future[Verdict]] = {}
        there = [(step, root) for root in roots for step in _list_committed_steps(root)]
        for step, root in sorted(there)[-1:]:
            future = self._begun[root, step] = Future()
            Thread(target=self._verify_into, args=(root, step, future), name="ecrl-verify", daemon=True).start()

    def __call__(self, root: Path, step: int) -> Verdict:
        """The verdict of `commit.verify` on `step`. Waits for the thread if the thread verifies that step."""
        return self._begun[root, step].result() if (root, step) in self._begun else self._verify(root, step)

    def _verify(self, root: Path, step: int) -> Verdict:
        return commit.verify(root, step, run=self._run, world_size=self._world_size)

    def _verify_into(self, root: Path, step: int, future: "Future[Verdict]") -> None:
        begun = now_ns()
        try:
            verdict = self._verify(root, step)
            self._recorder.event("verified", s=step, t0=begun, state=verdict.state)
        except BaseException as error:  # raised to the caller that asks for the verdict
            future.set_exception(error)
        else:
            future.set_result(verdict)


def _list_committed_steps(root: Path) -> list[int]:
    try:
        return commit.list_committed_steps(root)
    except OSError:  # the restore meets it again, and decides what it means
        return []
