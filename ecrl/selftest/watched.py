"""The production engines under observation: every snapshot is compared with the state that it should be a copy of."""

import json
import queue
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import EngineContext
from ecrl.checkpoint.engines.blocking import Blocking
from ecrl.checkpoint.engines.overlapped import Overlapped
from ecrl.checkpoint.sharded.engine import ShardedEngine
from ecrl.checkpoint.sharded.snapshot import LiveSlot, LiveStager, Slot, SlotState, Stager
from ecrl.checkpoint.sharded.ticket import Ticket
from ecrl.checkpoint.state_view import META_LEAF, leaf_digest, meta_digest
from ecrl.selftest.progress import WAIT_TIMEOUT_S, Progress, no_delay
from ecrl.storage import commit

Leaves = dict[str, str]  # name of a tensor (or of the JSON state) -> its digest

# Every slot is filled with this byte before it is reused. A poisoned word is two floats of -2.2e24; no state has that.
POISON = 0xE7
_POISON_WORD = np.uint64(int.from_bytes(bytes([POISON] * 8), "little"))
RUN = "selftest"


@dataclass
class Outcome:
    """The result of a drill. torn: names that differ, by step. held: how often training waited at a fence on the host.

    diverged: names in which the trained state itself differs from the twin's.
    """

    compared: int = 0
    torn: dict[int, list[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    num_poisoned: int = 0
    payload_bytes: int = 0
    held: int = 0
    overdue: int = 0
    diverged: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class StressPlan:
    """The delays of a drill and what it compares.

    late_update: queues a delay on the compute stream before each update. writer_every: the persister lags behind the
    next update at every N-th snapshot (0: never). to_disk: shards are written, committed, read back and compared,
    instead of slots. handed_over_late: the persister gets a slot when the next snapshot starts, and training pauses
    while the persister reads; a run on the stand-in for CUDA then repeats exactly.
    """

    make_stager: Callable[[Progress], Stager]
    engine: "type[WatchedEngine]"
    steps: int
    late_update: Callable[[], None] = no_delay
    writer_every: int = 0
    to_disk: bool = False
    handed_over_late: bool = False


def _poison(slot: Slot) -> None:
    if not isinstance(slot, LiveSlot):  # whose tensors are those of the training
        slot.payload.fill_(POISON)


class WatchedEngine(ShardedEngine):
    """A mix-in for an engine: poisons every slot before it is filled, reports the progress, and compares snapshots."""

    def __init__(self, context: EngineContext, drill: StressPlan, expected: dict[int, Leaves]) -> None:
        super().__init__(context)
        self._drill_plan, self._expected = drill, expected
        self.progress = Progress()
        self.outcome = Outcome()
        if not isinstance(self._stager, LiveStager):
            self._stager.close()
            self._stager = drill.make_stager(self.progress)

    def _prepare(self) -> None:
        super()._prepare()
        self.outcome.payload_bytes = self._slots[0].layout.payload_bytes
        for slot in self._slots:
            _poison(slot)

    def before_update(self, step: int) -> None:
        self.progress.note_reached("forward", step)
        super().before_update(step)
        self._drill_plan.late_update()

    def _fence(self, name: str, step: int, fence: Any) -> None:
        def fence_and_count() -> bool:
            waited: bool = fence()
            self.outcome.held += waited
            return waited

        super()._fence(name, step, fence_and_count)

    def synchronize_if_due(self, step: int) -> None:
        self.progress.note_reached("update", step)
        super().synchronize_if_due(step)

    def _drain(self) -> None:
        self.progress.end()
        super()._drain()  # type: ignore[safe-super] # of the engine that this is mixed into
        self.outcome.overdue = self.progress.overdue

    def abandon(self) -> None:
        """End all threads after an error in training."""
        self.progress.end()
        self._stager.close()

    def _persist_and_commit(self, ticket: Ticket, agreement: Agreement) -> None:
        step, every = ticket.step, self._drill_plan.writer_every
        if every and step % every == 0:
            self.progress.wait_for("update", step + 1)
        if self._drill_plan.to_disk:
            super()._persist_and_commit(ticket, agreement)
            self._compare_files(step)
        else:
            ticket.slot.move_to(SlotState.PERSISTING)
            self.compare_slot(step, ticket.slot)
            ticket.slot.move_to(SlotState.FREE)
        # Not when the slot is acquired: that would take the training thread's time, and a delay queued on the device
        # would be over before the copy starts.
        _poison(ticket.slot)

    def _compare_files(self, step: int) -> None:
        fault = commit.verify(self.context.root, step, run=RUN, world_size=1).reason
        if fault is None:
            self._compare(step, *_read_shard(commit.step_folder(self.context.root, step)))
        else:
            self.outcome.faults.append(f"checkpoint {step}: {fault}")

    def compare_slot(self, step: int, slot: Slot) -> None:
        """Compare the content of a slot with the state after `step`."""
        leaves = {name: leaf_digest(view) for name, view in slot.views.items()}
        self._compare(step, leaves | {META_LEAF: meta_digest(slot.meta)}, slot.payload.numpy())

    def _compare(self, step: int, leaves: Leaves, payload: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> None:
        self.outcome.compared += 1
        differing = find_difference(leaves, self._expected[step])
        if differing:
            self.outcome.torn[step] = differing
        if (differing or self._drill_plan.to_disk) and count_poison_words(payload):
            self.outcome.num_poisoned += 1


class WatchedBlocking(WatchedEngine, Blocking):
    """`blocking` under observation."""


class WatchedOverlapped(WatchedEngine, Overlapped):
    """`overlapped` under observation."""

    def __init__(self, context: EngineContext, drill: StressPlan, expected: dict[int, Leaves]) -> None:
        super().__init__(context, drill, expected)
        self._behind: Ticket | None = None
        self._read: queue.SimpleQueue[None] = queue.SimpleQueue()

    def _release(self, ticket: Ticket) -> None:
        if not self._drill_plan.handed_over_late:
            super()._release(ticket)
            return
        if self._behind is not None:
            super()._release(self._behind)
            self._read.get(timeout=WAIT_TIMEOUT_S)
        self._behind = ticket

    def _persist_and_commit(self, ticket: Ticket, agreement: Agreement) -> None:
        super()._persist_and_commit(ticket, agreement)
        self._read.put(None)

    def _drain(self) -> None:
        if self._behind is not None:
            super()._release(self._behind)
        super()._drain()

    def abandon(self) -> None:
        self.progress.end()
        self._tickets.put(None)
        self._persister.join(WAIT_TIMEOUT_S)
        super().abandon()


class TakesBusySlot(WatchedOverlapped):
    """Does not wait for a free slot: every snapshot goes into the same slot, whatever its state."""

    def _acquire(self, step: int) -> Ticket:
        self.progress.wait_for("held", step - 1)
        slot = self._slots[0]
        slot.state = SlotState.FREE
        slot.payload.fill_(POISON)
        self.progress.note_reached("acquired", step)
        return Ticket(step, slot)

    def _persist_and_commit(self, ticket: Ticket, agreement: Agreement) -> None:
        self.progress.note_reached("held", ticket.step)
        self.progress.wait_for("acquired", ticket.step + 1)
        self.compare_slot(ticket.step, ticket.slot)


def find_difference(found: Leaves, expected: Leaves) -> list[str]:
    """The names whose digests differ or that only one side has, sorted."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


def count_poison_words(payload: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> int:
    """The number of aligned 8-byte words that consist of poison only."""
    whole = payload[: payload.size // 8 * 8]
    return int(np.count_nonzero(whole.view(np.uint64) == _POISON_WORD))


def _read_shard(folder: Path) -> "tuple[Leaves, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]":
    """The digests of a shard and its facts, read by the format's own reader, and the file's payload."""
    names = commit.ShardNames(0)
    with safe_open(str(folder / names.tensors), framework="pt") as shard:
        leaves = {name: leaf_digest(shard.get_tensor(name)) for name in shard.keys()}  # noqa: SIM118 (not a dict)
    meta = json.loads((folder / names.facts).read_text())["meta"]
    content = np.fromfile(folder / names.tensors, dtype=np.uint8)
    header = 8 + int.from_bytes(content[:8].tobytes(), "little")
    return leaves | {META_LEAF: meta_digest(meta)}, content[header:]
