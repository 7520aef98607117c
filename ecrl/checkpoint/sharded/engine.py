"""ecrl's own checkpoints: sharded, digested, fsynced, committed by agreement. The engines differ in what overlaps.

Each rank writes its share of the replicated state, its own buffers and its RNG. Rank 0 publishes COMMIT.json once
every rank has reported its files as durable. If any rank fails, every rank records the failure and gives the
checkpoint up; training continues and the older checkpoints are untouched.
"""

import contextlib
import json
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ecrl.checkpoint.agreement import Agreement, AgreementError
from ecrl.checkpoint.engine import Engine, EngineContext, RestoreResult
from ecrl.checkpoint.sharded.persist import write_rank
from ecrl.checkpoint.sharded.snapshot import Slot, SlotState, make_stager, slot_bytes
from ecrl.checkpoint.sharded.ticket import Ticket
from ecrl.checkpoint.state_view import (
    META_LEAF,
    ForeignCheckpointError,
    Layout,
    check_same_model,
    live_leaves,
    load_shard,
    partition_tensors,
    read_tensor_specs,
    root_digest,
)
from ecrl.records.clock import now_ns
from ecrl.records.machine import usable_memory_bytes
from ecrl.storage import commit
from ecrl.storage.atomic import fsync_dir
from ecrl.storage.commit import FileFacts, ShardNames
from ecrl.units import format_bytes


class NotEnoughMemoryError(Exception):
    """The snapshot slots do not fit into this machine's free memory."""


class RestoreError(Exception):
    """Checkpoints verified, but the loaded state differs from the recorded one. The live state is unusable."""


class ShardedEngine(Engine):
    """Snapshot, persist, commit and restore of ecrl's own format. Subclasses decide which thread does what."""

    num_slots = 1

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._stager = make_stager(context.device)
        # On rank 0: the steps that a restore may use, oldest first; found at the restore or committed by this attempt.
        # Folders are not consulted: a failed commit may leave one that looks committed and must not count here.
        self._committed: list[int] = []

    def _prepare(self) -> None:
        view = self.context.state.view(0)
        share = partition_tensors(view.replicated, self.context.world_size)[self.context.rank]
        layout = Layout({name: view.replicated[name] for name in share} | view.local | view.host)
        pinned = self.context.device.type != "cpu"
        self._check_memory(slot_bytes(layout, pinned))
        if not self.context.root.is_dir():  # an fsync after a crash would wait for all writes of the dead ranks
            self.context.root.mkdir(parents=True, exist_ok=True)
            fsync_dir(self.context.root.parent)
        self._slots = [Slot(layout, pinned) for _ in range(self.num_slots)]

    def _check_memory(self, one_slot: int) -> None:
        """Check that the slots of all ranks of this machine fit into its free memory.

        Raises:
            NotEnoughMemoryError: they do not fit.
        """
        # The exchange makes every rank read the free memory before any rank allocates its slots.
        mine = {"host": socket.gethostname(), "needs": one_slot * self.num_slots, "free": usable_memory_bytes()}
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
        """Commit a staged ticket, or give it up and record why. Frees its slot in both cases."""
        step = ticket.step
        ticket.slot.move_to(SlotState.PERSISTING)
        word = self._persist(ticket)
        try:
            fault = agreement.decide(f"persisted/{step}", word, lambda words: self._commit(step, words))
        except AgreementError as error:
            fault = str(error)
        if fault is not None:
            self._remove_own_files(step)
            with contextlib.suppress(OSError):  # fails while other ranks' files exist; those ranks need the folder
                commit.step_folder(self.context.root, step).rmdir()
            self.context.recorder.event("persist_failed", s=step, reason=fault)
        elif self.context.rank == 0:
            self._retain(self.context.keep, halfway=lambda: self.context.reached("retention", step))
        ticket.slot.move_to(SlotState.FREE)

    def _persist(self, ticket: Ticket) -> dict[str, Any]:
        """Write this rank's files. Returns the word for rank 0: the files' facts, or the fault."""
        context = self.context
        begun = now_ns()
        try:
            files = write_rank(
                commit.step_folder(context.root, ticket.step),
                ticket.slot,
                run=context.run_hash,
                step=ticket.step,
                rank=context.rank,
                attempt=context.attempt,
                halfway=lambda: context.reached("persist", ticket.step),
            )
        except (OSError, MemoryError) as error:
            self._remove_own_files(ticket.step)
            return {"fault": f"rank {context.rank}: {_describe_error(error)}"}
        context.recorder.event("persisted", s=ticket.step, t0=begun, bytes=sum(facts.bytes for facts in files.values()))
        return {"files": {name: [f.bytes, f.xxh3_128] for name, f in files.items()}}

    def _remove_own_files(self, step: int) -> None:
        """Remove this rank's files of a checkpoint that can no longer be committed."""
        # Frees the space on a full disk.
        folder = commit.step_folder(self.context.root, step)
        for name in (ShardNames(self.context.rank).tensors, ShardNames(self.context.rank).facts):
            with contextlib.suppress(OSError):  # a leftover file is harmless without a COMMIT.json
                (folder / name).unlink()

    def _commit(self, step: int, words: list[dict[str, Any]]) -> str | None:
        """On rank 0: commit the checkpoint. Returns None, or the reason for giving the checkpoint up."""
        context = self.context
        if faults := [word["fault"] for word in words if "fault" in word]:
            return str(faults[0])
        context.reached("commit", step)
        try:
            commit.commit(
                commit.step_folder(context.root, step),
                run=context.run_hash,
                step=step,
                world_size=context.world_size,
                files={name: FileFacts(*facts) for word in words for name, facts in word["files"].items()},
            )
        except (OSError, MemoryError) as error:
            return f"commit: {_describe_error(error)}"
        context.recorder.event("committed", s=step)
        self._committed.append(step)
        return None

    def _remove_old_checkpoints(self) -> None:
        if self.context.rank == 0:
            self._retain(1)

    def _retain(self, keep: int, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove all but the newest `keep` committed checkpoints. The newest one always stays.

        A checkpoint that cannot be removed is tried again at the next call. halfway: see `commit.remove`.
        """
        for step in self._committed[:-keep]:
            if self._remove(step, halfway):
                self._committed.remove(step)
                self.context.recorder.event("removed", s=step)

    def _remove(self, step: int, halfway: Callable[[], None] = lambda: None) -> bool:
        try:
            commit.remove(self.context.root, step, halfway=halfway)
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
        seen = agreement.exchange("restore/committed", commit.list_committed_steps(context.root))
        candidates = sorted(set(seen[0]).intersection(*seen[1:]), reverse=True)
        passed_over: list[dict[str, Any]] = []
        verify = context.verify or partial(
            commit.verify, context.root, run=context.run_hash, world_size=context.world_size
        )
        overwritten = False
        for step in candidates:
            verdict = verify(step)
            said = agreement.exchange(f"restore/verified/{step}", [verdict.state, verdict.reason])
            if others := [reason for state, reason in said if state == "mismatched"]:
                folder = commit.step_folder(context.root, step)
                raise ForeignCheckpointError(f"{folder}: {others[0]}; move it away, or restore it with its own run")
            reason = next((reason for _, reason in said if reason), None)
            if reason is None:
                restored = self._load_step(step, passed_over)
                same = restored.digest_live == restored.digest_recorded
                if all(agreement.exchange(f"restore/loaded/{step}", same)):
                    self._remove_partials(agreement, newest=step)
                    return restored
                overwritten, reason = True, "verified, but the loaded state is not the recorded one"
            passed_over.append({"step": step, "reason": reason})
        if overwritten:
            raise RestoreError(f"{context.root}: no checkpoint could be loaded: {json.dumps(passed_over)}")
        self._remove_partials(agreement, newest=0)
        return RestoreResult(step=0, passed_over=tuple(passed_over))

    def _load_step(self, step: int, passed_over: list[dict[str, Any]]) -> RestoreResult:
        context = self.context
        folder = commit.step_folder(context.root, step)
        view = context.state.view(step)
        own = view.local | view.host
        saved = {
            name: kind
            for rank in range(context.world_size)
            for name, kind in read_tensor_specs(folder / ShardNames(rank).tensors).items()
            if rank == context.rank or not name.startswith("own/")
        }
        check_same_model(view.replicated | own, saved, folder)
        facts = [json.loads((folder / ShardNames(r).facts).read_text()) for r in range(context.world_size)]
        wanted: list[list[tuple[str, torch.Tensor]]] = []
        for rank in range(context.world_size):
            mine = own if rank == context.rank else {}
            theirs = {name: view.replicated[name] for name in facts[rank]["leaves"] if name in view.replicated}
            wanted.append(list((theirs | mine).items()))
        for half in (0, 1):
            for rank, tensors in enumerate(wanted):
                load_shard(folder / ShardNames(rank).tensors, dict(tensors[half::2]))
            if half == 0:
                context.reached("restore", step)
        meta = facts[context.rank]["meta"]
        context.state.load_host_state(meta, view.host)
        recorded = {n: leaf for f in facts for n, leaf in f["leaves"].items() if n in view.replicated}
        recorded |= {n: leaf for n, leaf in facts[context.rank]["leaves"].items() if n in own or n == META_LEAF}
        return RestoreResult(
            step=step,
            digest_recorded=root_digest(recorded),
            digest_live=root_digest(live_leaves(context.state.view(step))),
            passed_over=tuple(passed_over),
        )

    def _remove_partials(self, agreement: Agreement, *, newest: int) -> None:
        """Remove partial folders of the dead attempt, and rename rejected checkpoints to keep them as evidence.

        newest: the restored step; 0 if there was none.
        """
        # The coming steps write to the same folder names again.
        root = self.context.root
        if self.context.rank == 0:
            committed = {*commit.list_committed_steps(root), newest}
            for step in commit.list_steps(root):
                if step not in committed:
                    self._remove(step)
                elif step > newest:
                    folder = commit.step_folder(root, step)
                    folder.rename(folder.with_name(f"rejected-{step:08d}-attempt{self.context.attempt}"))
            self._committed = sorted(step for step in committed if 0 < step <= newest)
        agreement.exchange("restore/swept", None)  # no rank may write a shard before rank 0 has removed the folders


def _describe_error(error: OSError | MemoryError) -> str:
    """Why a checkpoint is given up, in a few words."""
    if isinstance(error, MemoryError):
        return "out of memory"
    return f"{error.strerror} ({error.filename or 'write'})"
