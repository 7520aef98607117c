"""Several ranks of an engine in one process: threads, one in-memory store, a small state per rank."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch._C._distributed_c10d import HashStore, PrefixStore, Store

from ecrl import plugins
from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import CheckpointableState, Engine, EngineContext
from ecrl.checkpoint.state_view import Shard, StateView
from ecrl.records.reader import Event, read_events
from ecrl.records.recorder import Recorder

T = TypeVar("T")
# Engines whose ranks need no process group, of which a process has but one: of others, one rank is tried in threads.
SPLIT_IN_THREADS = {"blocking", "overlapped"}  # of the others, those that know split state want tensors of FSDP2
SEVERAL_IN_THREADS = {"blocking", "overlapped", "torch-save"}


class ToyState(CheckpointableState):
    """Tensors of several types and sizes whose every element tells the step they belong to."""

    def __init__(self, rank: int, more_floats: int = 0) -> None:
        self.weights = {
            "model/wide": torch.zeros(64, 33),
            "model/bias": torch.zeros(33),
            "model/scalar": torch.tensor(0.0, dtype=torch.float64),
            "optimizer/wide/momentum": torch.zeros(64, 33),
            "optimizer/wide/step": torch.tensor(0.0),
            "model/empty": torch.zeros(0, 3),
        }
        if more_floats:
            self.weights["model/more"] = torch.zeros(more_floats)
        self.buffers = {
            "own/buffers/mean": torch.zeros(33),
            "own/buffers/count": torch.tensor(0),
            "own/buffers/half": torch.zeros(5, dtype=torch.bfloat16),
        }
        self.shards: dict[str, Shard] = {}
        self.rank = rank
        self.generator = torch.Generator().manual_seed(rank)
        self.meta: dict[str, Any] = {}

    def split(self, world_size: int) -> None:
        """Add tensors that are split over the ranks: unevenly, some without rows for the last rank, some held twice."""
        for name, rows, groups in (("split", 7, 1), ("few", 1, 1), ("twice", 5, 2 if world_size % 2 == 0 else 1)):
            ranks = world_size // groups
            size = -(-rows // ranks)
            begin = min(rows, self.rank % ranks * size)
            held = torch.zeros(min(rows, begin + size) - begin, 3)
            self.shards[f"model/{name}"] = Shard(held, (rows, 3), begin, groups, self.rank // ranks)

    def train_to(self, step: int) -> None:
        for tensor in [*self.weights.values(), *(shard.rows for shard in self.shards.values())]:
            tensor.fill_(step)
        for tensor in self.buffers.values():
            tensor.fill_(100 * self.rank + step)
        torch.rand(3, generator=self.generator)

    def view(self, step: int) -> StateView:
        return StateView(
            replicated=self.weights,
            local=self.buffers,
            host={"own/rng": self.generator.get_state()},
            meta={"step": step, "rank": self.rank},
            shards=self.shards,
        )

    def load_host_state(self, meta: dict[str, Any], host: dict[str, torch.Tensor]) -> None:
        self.meta = meta
        self.generator.set_state(host["own/rng"])


class Group:
    """The ranks of one attempt. A new Group on the same folder is the next attempt."""

    def __init__(
        self,
        folder: Path,
        engine: str,
        world_size: int = 2,
        attempt: int = 0,
        state: Callable[[int], ToyState] = ToyState,
        **context: Any,
    ) -> None:
        self.folder, self.engine, self.world_size, self.attempt = folder, engine, world_size, attempt
        store = HashStore()
        self.states = [state(rank) for rank in range(world_size)]
        if engine in SPLIT_IN_THREADS:
            for each in self.states:
                each.split(world_size)
        self.engines = [self._engine(engine, rank, store, context) for rank in range(world_size)]
        self.each(lambda rank: self.engines[rank].prepare())

    def _engine(self, name: str, rank: int, store: Store, context: dict[str, Any]) -> Engine:
        numbers = iter(range(99))
        base = EngineContext(
            state=self.states[rank],
            device=torch.device("cpu"),
            root=self.folder / "checkpoints",
            run_hash="run",
            rank=rank,
            world_size=self.world_size,
            attempt=self.attempt,
            checkpoint_every=10,
            max_inflight=2,
            keep=2,
            recorder=Recorder(self._events(rank)),
            agree=lambda: Agreement(PrefixStore(str(next(numbers)), store), rank, self.world_size, 20.0),
        )
        engine: Engine = plugins.load("engine", name).build(replace(base, **context))
        return engine

    def _events(self, rank: int) -> Path:
        return self.folder / f"events-{self.attempt}-{rank}.jsonl"

    def each(self, act: Callable[[int], T]) -> list[T]:
        """Run `act(rank)` on all ranks at once; the first error is raised."""
        with ThreadPoolExecutor(self.world_size) as pool:
            return list(pool.map(act, range(self.world_size)))

    def train(self, first: int, last: int) -> None:
        """Steps `first` to `last`, checkpoints at their boundaries, fences where the loop has them."""

        def one_rank(rank: int) -> None:
            engine, state = self.engines[rank], self.states[rank]
            for step in range(first, last + 1):
                engine.before_forward()
                engine.before_update(step)
                state.train_to(step)
                if engine.is_due(step):
                    engine.save(step)

        self.each(one_rank)

    def settle(self) -> None:
        """Wait for what is in flight, as if the attempt ended here without completing the run."""

        def one_rank(rank: int) -> None:
            self.engines[rank]._drain()
            self.engines[rank]._stop_processes()

        self.each(one_rank)

    def events(self, rank: int, kind: str) -> list[Event]:
        warnings: list[str] = []
        found = [e for e in read_events(self._events(rank), warnings) if e["e"] == kind]
        assert not warnings
        return found
