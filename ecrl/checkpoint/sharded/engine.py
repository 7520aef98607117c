"""ecrl's own checkpoints: sharded, digested, fsynced, committed by agreement. The engines differ in what overlaps.

Each rank writes its share of the replicated state, its own buffers and its RNG. Rank 0 publishes COMMIT.json once
every rank has reported its files as durable. If any rank fails, every rank records the failure and gives the
checkpoint up; training continues and the older checkpoints are untouched.
"""

import contextlib
import errno
import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ecrl.checkpoint.agreement import Agreement, AgreementError
from ecrl.checkpoint.engine import Engine, EngineContext, RestoreResult
from ecrl.checkpoint.sharded.persist import FrozenFile, write_rank
from ecrl.checkpoint.sharded.saved_state import SavedState
from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, Stager, make_stager, slot_bytes
from ecrl.checkpoint.sharded.ticket import Ticket
from ecrl.checkpoint.state_view import ForeignCheckpointError, Layout, StateView, live_leaves, root_digest
from ecrl.records.clock import now_ns
from ecrl.records.machine import usable_memory_bytes
from ecrl.storage import commit
from ecrl.storage.atomic import fsync_dir
from ecrl.storage.commit import FileFacts, ShardNames
from ecrl.units import format_bytes

# A disk that is full, failing, read-only, forbidden or gone.
_REFUSALS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESTALE)
)


class NotEnoughMemoryError(Exception):
    """The snapshot slots do not fit into this machine's free memory."""


class RestoreError(Exception):
    """Checkpoints verified, but the loaded state differs from the recorded one. The live state is unusable."""


@dataclass(frozen=True)
class Fault:
    """Why a place does not get a checkpoint. refused: the place does not take it; another one may."""

    reason: str
    refused: bool


class ShardedEngine(Engine):
    """Snapshot, persist, commit and restore of ecrl's own format. Subclasses decide which thread does what."""

    num_slots = 1

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._stager = self._make_stager()
        self._places = (context.root, *context.fallbacks)
        # On rank 0: step and place of what a restore may use; found at the restore or committed by this attempt.
        # Folders are not consulted: a failed commit may leave one that looks committed and must not count here.
        self._committed: set[tuple[int, Path]] = set()

    def _prepare(self) -> None:
        view = self.context.state.view(0)
        layout = self._build_layout(view)
        frozen = FrozenFile(view.select_frozen(), self.context.rank, self.context.world_size)
        self._frozen = frozen if frozen.layout.entries else None
        pinned = self.context.device.type != "cpu"
        self._check_memory(slot_bytes(layout, pinned))
        # Only a new folder: an fsync after a crash would wait for all writes of the dead ranks.
        if len(self._places) == 1 and not self.context.root.is_dir():
            # Without parents: those of a place are gone if its disk is, and would be folders of another disk.
            self.context.root.mkdir(exist_ok=True)
            fsync_dir(self.context.root.parent)
        self._slots = self._make_slots(layout, pinned)

    def _make_stager(self) -> Stager:
        return make_stager(self.context.device)

    def _make_slots(self, layout: Layout, pinned: bool) -> list[Slot]:
        return [Slot(layout, pinned) for _ in range(self.num_slots)]

    def refit(self) -> None:
        layout, pinned = self._build_layout(self.context.state.view(0)), self.context.device.type != "cpu"
        # `fit` gives back what a slot has before it takes more.
        self._check_memory(slot_bytes(layout, pinned), held=slot_bytes(self._slots[0].layout, pinned))
        for slot in self._slots:
            slot.fit(layout)

    def _build_layout(self, view: StateView) -> Layout:
        return view.select_changing().build_layout(self.context.rank, self.context.world_size)

    def _begin_copy(self, ticket: Ticket) -> None:
        """Start to copy the state after the ticket's step into its slot."""
        view = self.context.state.view(ticket.step)
        if not self.context.state.fixed:
            ticket.slot.fit(self._build_layout(view))
        self._stager.begin(ticket.slot, view)

    def _check_memory(self, one_slot: int, held: int = 0) -> None:
        """Check that the slots of all ranks of this machine fit into its free memory. held: what each has already.

        Raises:
            NotEnoughMemoryError: they do not fit.
        """
        # The exchange makes every rank read the free memory before any rank allocates its slots.
        mine = {
            "host": socket.gethostname(),
            "needs": (one_slot - held) * self.num_slots,
            "free": usable_memory_bytes(),
        }
        here = [r for r in self.context.agree().exchange("prepare/memory", mine) if r["host"] == mine["host"]]
        needed, free = sum(rank["needs"] for rank in here), min(rank["free"] for rank in here)
        if needed > free:
            raise NotEnoughMemoryError(
                f"{self.num_slots} slots of about {format_bytes(one_slot)} x {len(here)} ranks need"
                f" {format_bytes(needed)} of host memory, {format_bytes(free)} is free; lower max_inflight"
            )

    def before_forward(self) -> None:
        self._fence("before_forward", 0, self._stager.before_forward)

    def before_update(self, step: int) -> None:
        self._fence("before_update", step, self._stager.before_update)

    def _fence(self, name: str, step: int, fence: Any) -> None:
        begun = now_ns()
        if fence():  # record real waits only: an open fence takes about a microsecond and counts as compute
            self.context.recorder.event("fence", s=step, name=name, t0=begun)

    # --- persist and commit -------------------------------------------------------------------------------

    def _persist_and_commit(self, ticket: Ticket, agreement: Agreement) -> None:
        """Commit a staged ticket in the first place that takes it, or give it up and record why. Frees its slot."""
        step = ticket.step
        ticket.slot.move_to(SlotState.PERSISTING)
        for number, place in enumerate(self._places):
            if (fault := self._persist_in(place, ticket, agreement, f"persisted/{step}/{number}")) is None:
                break
            self._remove_own_files(place, step)
            with contextlib.suppress(OSError):  # fails while other ranks' files exist; those ranks need the folder
                commit.step_folder(place, step).rmdir()
            if not fault.refused or place == self._places[-1]:
                self.context.recorder.event("persist_failed", s=step, reason=fault.reason)
                break
            self.context.recorder.event("rerouted", s=step, reason=fault.reason, to=str(self._places[number + 1]))
        ticket.slot.move_to(SlotState.FREE)

    def _persist_in(self, place: Path, ticket: Ticket, agreement: Agreement, topic: str) -> Fault | None:
        """Commit a ticket in a place. Returns None, or on all ranks the same reason for not doing it."""
        step, word = ticket.step, self._persist(place, ticket)
        try:
            told = agreement.decide(topic, word, lambda words: self._commit(place, step, words))
        except AgreementError as error:
            told = str(error)
        if told is not None:  # a text: a rank said nothing in time, and may still be writing
            return Fault(told, refused=False) if isinstance(told, str) else Fault(**told)
        if self.context.rank == 0:
            self._retain(self.context.keep, halfway=lambda: self.context.reached("retention", step))
        return None

    def _persist(self, place: Path, ticket: Ticket) -> dict[str, Any]:
        """Write this rank's files. Returns the word for rank 0: the files' facts, or the fault."""
        context = self.context
        begun = now_ns()
        try:
            files = write_rank(
                commit.step_folder(place, ticket.step),
                ticket.slot,
                run=context.run_hash,
                step=ticket.step,
                rank=context.rank,
                attempt=context.attempt,
                frozen=self._frozen,
                halfway=lambda: context.reached("persist", ticket.step),
            )
        except (OSError, MemoryError) as error:
            self._remove_own_files(place, ticket.step)
            return {"fault": asdict(_describe_error(f"rank {context.rank}", error))}
        own = {name: facts for name, facts in files.items() if name != ShardNames(context.rank).frozen}
        context.recorder.event("persisted", s=ticket.step, t0=begun, bytes=sum(facts.bytes for facts in own.values()))
        return {"files": {name: [f.bytes, f.xxh3_128] for name, f in files.items()}}

    def _remove_own_files(self, place: Path, step: int) -> None:
        """Remove this rank's files of a checkpoint that can no longer be committed."""
        # Frees the space on a full disk.
        folder = commit.step_folder(place, step)
        names = ShardNames(self.context.rank)
        for name in (names.tensors, names.facts, names.frozen):
            with contextlib.suppress(OSError):  # a leftover file is harmless without a COMMIT.json
                (folder / name).unlink()

    def _commit(self, place: Path, step: int, words: list[dict[str, Any]]) -> dict[str, Any] | None:
        """On rank 0: commit the checkpoint. Returns None, or the fault for which it is not committed here."""
        context = self.context
        if faults := [dict(word["fault"]) for word in words if "fault" in word]:
            return next((fault for fault in faults if not fault["refused"]), faults[0])
        context.reached("commit", step)
        try:
            commit.commit(
                commit.step_folder(place, step),
                run=context.run_hash,
                step=step,
                world_size=context.world_size,
                files={name: FileFacts(*facts) for word in words for name, facts in word["files"].items()},
            )
        except (OSError, MemoryError) as error:
            return asdict(_describe_error("commit", error))
        elsewhere: dict[str, Any] = {} if place == context.root else {"place": str(place)}
        context.recorder.event("committed", s=step, **elsewhere)
        self._committed.add((step, place))
        return None

    def _remove_old_checkpoints(self) -> None:
        if self.context.rank == 0:
            self._retain(self.context.keep_at_end)

    def _retain(self, keep: int, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove all but the newest `keep` committed checkpoints, of all places. The newest one always stays.

        A checkpoint that cannot be removed is tried again at the next call. halfway: see `commit.remove`.
        """
        old = sorted({step for step, _ in self._committed})[:-keep]
        for step, place in sorted(one for one in self._committed if one[0] in old):
            if self._remove(place, step, halfway):
                self._committed.remove((step, place))
                self.context.recorder.event("removed", s=step)

    def _remove(self, place: Path, step: int, halfway: Callable[[], None] = lambda: None) -> bool:
        try:
            commit.remove(place, step, halfway=halfway)
        except OSError as error:
            self.context.recorder.event("remove_failed", s=step, reason=f"{error.strerror} ({error.filename})")
            return False
        return True

    # --- restore ------------------------------------------------------------------------------------------

    def _restore(self) -> RestoreResult:
        """Load the newest checkpoint that all ranks see, that verifies on all ranks and that loads as recorded.

        Raises:
            ForeignCheckpointError: a checkpoint belongs to another run, world size or model.
            RestoreError: a load has changed the live state, and no checkpoint loaded as recorded.
        """
        context, agreement = self.context, self.context.agree()
        seen = agreement.exchange("restore/committed", [(s, str(place)) for s, place in self._list_committed()])
        shared = set(map(tuple, seen[0])).intersection(*(map(tuple, own) for own in seen[1:]))
        passed_over: list[dict[str, Any]] = []
        verify = context.verify or partial(commit.verify, run=context.run_hash, world_size=context.world_size)
        overwritten = False
        for step, place in sorted(((step, Path(place)) for step, place in shared), reverse=True):
            verdict = verify(place, step)
            topic = f"{step}{place}"
            said = agreement.exchange(f"restore/verified/{topic}", [verdict.state, verdict.reason])
            folder = commit.step_folder(place, step)
            if others := [reason for state, reason in said if state == "mismatched"]:
                raise ForeignCheckpointError(f"{folder}: {others[0]}; move it away, or restore it with its own run")
            reason = next((reason for _, reason in said if reason), None)
            if reason is None:
                restored = self._load_step(folder, step, passed_over)
                same = restored.digest_live == restored.digest_recorded
                if all(agreement.exchange(f"restore/loaded/{topic}", same)):
                    self._remove_partials(agreement, newest=(step, place))
                    return restored
                overwritten, reason = True, "verified, but the loaded state is not the recorded one"
            passed_over.append({"step": step, "reason": reason})
        if overwritten:
            raise RestoreError(f"{context.root}: no checkpoint could be loaded: {json.dumps(passed_over)}")
        self._remove_partials(agreement, newest=(0, context.root))
        return RestoreResult(step=0, passed_over=tuple(passed_over))

    def _list_committed(self) -> list[tuple[int, Path]]:
        """Step and place of every committed checkpoint. A place that cannot be read has none, if there are others."""
        found: list[tuple[int, Path]] = []
        for place in self._places:
            with self._unless_gone():
                found += [(step, place) for step in commit.list_committed_steps(place)]
        return found

    def _load_step(self, folder: Path, step: int, passed_over: list[dict[str, Any]]) -> RestoreResult:
        context = self.context
        saved = SavedState(folder, context.rank, context.world_size)
        context.state.prepare_to_load(saved.meta)
        view = context.state.view(step)
        saved.check_same_model(view)
        recorded = saved.load(view, halfway=lambda: context.reached("restore", step))
        context.state.load_host_state(saved.meta, view.host)
        if self._frozen is not None:
            with contextlib.suppress(OSError):  # the next checkpoint writes the file again
                self._frozen.adopt(folder, recorded)
        return RestoreResult(
            step=step,
            digest_recorded=root_digest(recorded),
            digest_live=root_digest(live_leaves(context.state.view(step))),
            passed_over=tuple(passed_over),
        )

    def _remove_partials(self, agreement: Agreement, *, newest: tuple[int, Path]) -> None:
        """Remove partial folders of the dead attempt, and rename rejected checkpoints to keep them as evidence.

        newest: the restored step and its place; step 0 if there was none.
        """
        # The coming steps write to the same folder names again.
        if self.context.rank == 0:
            committed = {*self._list_committed(), newest}
            for place in self._places:
                with self._unless_gone():
                    for step in commit.list_steps(place):
                        if (step, place) not in committed:
                            self._remove(place, step)
                        elif step >= newest[0] and (step, place) != newest:
                            folder = commit.step_folder(place, step)
                            folder.rename(folder.with_name(f"rejected-{step:08d}-attempt{self.context.attempt}"))
            self._committed = {one for one in committed if 0 < one[0] < newest[0] or (one == newest and newest[0])}
        agreement.exchange("restore/swept", None)  # no rank may write a shard before rank 0 has removed the folders

    @contextlib.contextmanager
    def _unless_gone(self) -> Iterator[None]:
        """Pass over a place that cannot be read or changed, if there are others."""
        try:
            yield
        except OSError:
            if len(self._places) == 1:
                raise


def _describe_error(who: str, error: OSError | MemoryError) -> Fault:
    """Why a place does not get a checkpoint, in a few words."""
    if isinstance(error, MemoryError):
        return Fault(f"{who}: out of memory", refused=False)
    said = f"{who}: {error.strerror} ({error.filename or 'write'})"
    return Fault(said, refused=error.errno in _REFUSALS)
