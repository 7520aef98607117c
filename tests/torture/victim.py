"""One rank that restores, checks what it got, and saves after every step until it is killed."""

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore

from ecrl import plugins
from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import EngineContext, RestoreResult
from ecrl.checkpoint.sharded import engine as sharded
from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.records.clock import now_ns
from ecrl.records.recorder import Recorder
from ecrl.storage import commit
from tests.torture.torn import LargeState

WORLD_SIZE = 2
KEEP = 2


@dataclass(frozen=True)
class Life:
    """One attempt. delay_s None: killed at the engine's own hook in `phase`, its nth time; else that long after
    the phase began for the nth time."""

    folder: Path
    engine: str
    attempt: int
    port: int
    victim: int
    phase: str
    nth: int
    delay_s: float | None


def holds(tensors: dict[str, torch.Tensor], step: int) -> bool:
    """Whether every element is of `step`, as far as its type can tell."""
    return all(bool((t == torch.tensor(step).to(t.dtype)).all()) for t in tensors.values())


class Marks:
    """Writes down when each phase begins and ends, and sets off the timer of a kill."""

    def __init__(self, life: Life, rank: int) -> None:
        self._life, self._mine = life, rank == life.victim
        path = life.folder / f"marks-{life.attempt}-{rank}"
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._times = 0
        self._go = threading.Event()
        if self._mine and life.delay_s is not None:
            threading.Thread(target=self._kill, daemon=True).start()

    def _kill(self) -> None:
        self._go.wait()
        assert self._life.delay_s is not None
        time.sleep(self._life.delay_s)
        os.kill(os.getpid(), signal.SIGKILL)

    def reached(self, phase: str, step: int) -> None:
        """The engine's hook."""
        if self._mine and self._life.delay_s is None and phase == self._life.phase:
            self._times += 1
            if self._times == self._life.nth:
                os.kill(os.getpid(), signal.SIGKILL)

    def begin(self, phase: str) -> None:
        os.write(self._fd, f"{phase} + {now_ns()}\n".encode())
        if self._mine and self._life.delay_s is not None and phase == self._life.phase:
            self._times += 1
            if self._times == self._life.nth:
                self._go.set()

    def end(self, phase: str) -> None:
        os.write(self._fd, f"{phase} - {now_ns()}\n".encode())

    @contextmanager
    def around(self, phase: str) -> Any:
        self.begin(phase)
        yield
        self.end(phase)

    def wrapped(self, phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def marked(*arguments: Any, **named: Any) -> Any:
            with self.around(phase):
                return call(*arguments, **named)

        return marked


def live(life: Life, rank: int) -> None:
    """Until death. What it restored goes to the records; a state that is not of one step too."""
    torch.set_num_threads(1)
    marks = Marks(life, rank)
    numbers = iter(range(99))

    def agree() -> Agreement:
        store = PrefixStore(f"{life.engine}/{life.attempt}", TCPStore("127.0.0.1", life.port, is_master=False))
        return Agreement(PrefixStore(str(next(numbers)), store), rank, WORLD_SIZE, 60.0)

    recorder = Recorder(life.folder / f"events-{life.attempt}-{rank}.jsonl")
    state = LargeState(rank)
    context = EngineContext(
        state=state, device=torch.device("cpu"), root=life.folder / "checkpoints", run_hash="run", rank=rank,
        world_size=WORLD_SIZE, attempt=life.attempt, checkpoint_every=1, max_inflight=2, keep=KEEP,
        recorder=recorder, agree=agree, reached=marks.reached,
    )  # fmt: skip
    _mark_phases(marks)
    engine: sharded.ShardedEngine = plugins.load("engine", life.engine).build(context)
    _mark_staging(marks, engine)
    engine.prepare()
    with marks.around("restore"):
        restored: RestoreResult = engine.restore()
    if not holds(state.weights, restored.step) or not (
        restored.step == 0 or holds(state.buffers, 100 * rank + restored.step)
    ):
        recorder.event("torn", s=restored.step)
    step = restored.step
    while True:
        step += 1
        engine.before_forward()
        engine.before_update(step)
        state.train_to(step)
        engine.save(step)
        recorder.event("saved", s=step)


def _mark_phases(marks: Marks) -> None:
    patch.object(sharded, "write_rank", marks.wrapped("persist", write_rank)).start()
    patch.object(commit, "commit", marks.wrapped("commit", commit.commit)).start()
    patch.object(commit, "remove", _marked_remove(marks, commit.remove)).start()


def _marked_remove(marks: Marks, remove: Callable[..., None]) -> Callable[..., None]:
    def marked(root: Path, step: int, **named: Any) -> None:
        committed = (commit.step_folder(root, step) / commit.COMMIT_FILE).exists()  # a restore clears partial ones
        if committed:
            marks.begin("retention")
        remove(root, step, **named)
        if committed:
            marks.end("retention")

    return marked


def _mark_staging(marks: Marks, engine: sharded.ShardedEngine) -> None:
    begin, wait = engine._stager.begin, engine._stager.wait

    def marked_begin(*arguments: Any) -> None:
        marks.begin("staging")
        begin(*arguments)

    def marked_wait(*arguments: Any) -> None:
        wait(*arguments)
        marks.end("staging")

    patch.object(engine._stager, "begin", marked_begin).start()
    patch.object(engine._stager, "wait", marked_wait).start()
