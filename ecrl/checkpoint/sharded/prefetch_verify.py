"""Verification that starts before the restore, while this rank imports modules and its group forms.

It starts before torch is imported, so this module must not load torch. The load finds the files in the page cache.
"""

from concurrent.futures import Future
from pathlib import Path
from threading import Thread

from ecrl.records.clock import now_ns
from ecrl.records.recorder import Recorder
from ecrl.storage import commit
from ecrl.storage.commit import Verdict


class PrefetchedVerification:
    """Verdicts on the committed checkpoints below `root`. A thread verifies the newest one, starting at construction.

    Create it only when no process writes checkpoints below `root` any more. Records `verified` when the thread is done.
    """

    def __init__(self, root: Path, *, run: str, world_size: int, recorder: Recorder) -> None:
        self._root, self._run, self._world_size, self._recorder = root, run, world_size, recorder
        self._begun: dict[int, Future[Verdict]] = {}
        for step in commit.list_committed_steps(root)[-1:]:
            future = self._begun[step] = Future()
            Thread(target=self._verify_into, args=(step, future), name="ecrl-verify", daemon=True).start()

    def __call__(self, step: int) -> Verdict:
        """The verdict of `commit.verify` on `step`. Waits for the thread if the thread verifies that step."""
        return self._begun[step].result() if step in self._begun else self._verify(step)

    def _verify(self, step: int) -> Verdict:
        return commit.verify(self._root, step, run=self._run, world_size=self._world_size)

    def _verify_into(self, step: int, future: "Future[Verdict]") -> None:
        begun = now_ns()
        try:
            verdict = self._verify(step)
            self._recorder.event("verified", s=step, t0=begun, state=verdict.state)
        except BaseException as error:  # raised to the caller that asks for the verdict
            future.set_exception(error)
        else:
            future.set_result(verdict)
