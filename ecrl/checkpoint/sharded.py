"""ecrl's own checkpoints: sharded, digested, fsynced, committed by agreement. Engines differ in what overlaps.

Each rank writes its share of the replicated state and its own buffers and RNG; rank 0 publishes COMMIT.json
once every rank has said that its files are durable. A checkpoint that fails anywhere is counted, recorded on
every rank and given up; training and the older checkpoints are untouched.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ecrl.checkpoint.agreement import Agreement, AgreementError
from ecrl.checkpoint.codec import META_LEAF, Layout, live_leaves, load_shard, root_digest, shares
from ecrl.checkpoint.engine import Engine, EngineContext, Restored
from ecrl.checkpoint.persist import ShardNames, write_rank
from ecrl.checkpoint.snapshot import Slot, SlotState, make_stager, slot_bytes
from ecrl.checkpoint.ticket import Ticket
from ecrl.records.clock import now_ns
from ecrl.records.machine import available_memory_bytes
from ecrl.storage import commit
from ecrl.storage.commit import FileFacts
from ecrl.units import format_bytes


class NotEnoughMemoryError(Exception):
    """The snapshot slots do not fit into this machine's free memory."""


class ShardedEngine(Engine):
    """Snapshot, persist, commit and restore of ecrl's own format. Subclasses decide what runs where."""

    num_slots = 1

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self._stager = make_stager(context.device)

    def _prepare(self) -> None:
        view = self.context.state.view(0)
        share = shares(view.replicated, self.context.world_size)[self.context.rank]
        layout = Layout({name: view.replicated[name] for name in share} | view.local | view.host)
        pinned = self.context.device.type != "cpu"
        self._refuse_too_much(slot_bytes(layout, pinned))
        self.context.root.mkdir(parents=True, exist_ok=True)
        self._slots = [Slot(layout, pinned) for _ in range(self.num_slots)]

    def _refuse_too_much(self, one_slot: int) -> None:
        free = available_memory_bytes()
        needed = one_slot * self.num_slots * self.context.world_size  # the ranks of a node fill it together
        if needed > free:
            raise NotEnoughMemoryError(
                f"{self.num_slots} slots x {format_bytes(one_slot)} x {self.context.world_size} ranks need"
                f" {format_bytes(needed)} of host memory, {format_bytes(free)} is free; lower max_inflight"
            )

    def before_forward(self) -> None:
        self._fence("before_forward", 0, self._stager.before_forward)

    def before_update(self, step: int) -> None:
        self._fence("before_update", step, self._stager.before_update)

    def _fence(self, name: str, step: int, fence: Any) -> None:
        begun = now_ns()
        if fence():  # record only real waits: a fence that was open costs a microsecond and is compute
            self.context.recorder.event("fence", s=step, name=name, t0=begun)

    # --- persist and commit -------------------------------------------------------------------------------

    def _carry_out(self, ticket: Ticket, agreement: Agreement) -> None:
        """Take a staged ticket to its end, committed or given up and recorded, and give its slot back."""
        ticket.slot.move(SlotState.PERSISTING)
        try:
            fault = self._verdict(ticket.step, agreement, self._persisted(ticket, agreement))
        except AgreementError as error:
            fault = str(error)
        if fault is not None:
            self.context.recorder.event("persist_failed", s=ticket.step, reason=fault)
        ticket.slot.move(SlotState.FREE)

    def _persisted(self, ticket: Ticket, agreement: Agreement) -> str | None:
        """Write this rank's files and tell the others; the reason if that failed."""
        context = self.context
        topic = f"persisted/{ticket.step}"
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
        except OSError as error:
            reason = f"rank {context.rank}: {error.strerror} ({error.filename or 'write'})"
            agreement.say(topic, {"fault": reason})
            return reason
        context.recorder.event("persisted", s=ticket.step, t0=begun, bytes=sum(facts.bytes for facts in files.values()))
        agreement.say(topic, {"files": {name: [f.bytes, f.xxh3_128] for name, f in files.items()}})
        return None

    def _verdict(self, step: int, agreement: Agreement, fault: str | None) -> str | None:
        """None once the checkpoint is committed; else why it was given up. Rank 0 decides for all."""
        topic = f"verdict/{step}"
        if self.context.rank != 0:
            # rank 0 may use up a whole timeout waiting for the slowest rank before it can say so
            heard: str | None = agreement.hear(topic, 0, timeouts=2)
            return heard
        verdict = fault or self._commit(step, agreement)
        agreement.say(topic, verdict)
        return verdict

    def _commit(self, step: int, agreement: Agreement) -> str | None:
        context = self.context
        files: dict[str, FileFacts] = {}
        try:
            for rank in range(context.world_size):
                said = agreement.hear(f"persisted/{step}", rank)
                if "fault" in said:
                    return str(said["fault"])
                files |= {name: FileFacts(*facts) for name, facts in said["files"].items()}
            context.reached("commit", step)
            commit.commit(
                commit.step_folder(context.root, step),
                run=context.run_hash,
                step=step,
                world_size=context.world_size,
                files=files,
            )
        except AgreementError as error:
            return str(error)
        except OSError as error:
            return f"commit: {error.strerror}"
        context.recorder.event("committed", s=step)
        self._retain(context.keep, halfway=lambda: context.reached("retention", step))
        return None

    def _retire(self) -> None:
        if self.context.rank == 0:
            self._retain(1)

    def _retain(self, keep: int, halfway: Callable[[], None] = lambda: None) -> None:
        """Remove all but the newest `keep` committed checkpoints; the newest always stays. halfway: see
        `commit.remove`."""
        for step in commit.committed_steps(self.context.root)[:-keep]:
            commit.remove(self.context.root, step, halfway=halfway)
            self.context.recorder.event("removed", s=step)

    # --- restore ------------------------------------------------------------------------------------------

    def _restore(self) -> Restored:
        """Walk back from the newest checkpoint that all ranks see to the first that verifies on all of them."""
        context, agreement = self.context, self.context.agree()
        seen = agreement.exchange("restore/committed", commit.committed_steps(context.root))
        candidates = sorted(set(seen[0]).intersection(*seen[1:]), reverse=True)
        passed_over: list[dict[str, Any]] = []
        verify = context.verify or partial(
            commit.verify, context.root, run=context.run_hash, world_size=context.world_size
        )
        for step in candidates:
            reasons = agreement.exchange(f"restore/verified/{step}", verify(step).reason)
            if not any(reasons):
                restored = self._loaded(step, passed_over)
                self._sweep(agreement, newest=step)
                return restored
            passed_over.append({"step": step, "reason": next(reason for reason in reasons if reason)})
        self._sweep(agreement, newest=0)
        return Restored(step=0, passed_over=tuple(passed_over))

    def _loaded(self, step: int, passed_over: list[dict[str, Any]]) -> Restored:
        context = self.context
        folder = commit.step_folder(context.root, step)
        view = context.state.view(step)
        own = view.local | view.host
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
        context.state.restored(meta, view.host)
        recorded = {n: leaf for f in facts for n, leaf in f["leaves"].items() if n in view.replicated}
        recorded |= {n: leaf for n, leaf in facts[context.rank]["leaves"].items() if n in own or n == META_LEAF}
        return Restored(
            step=step,
            digest_recorded=root_digest(recorded),
            digest_live=root_digest(live_leaves(context.state.view(step))),
            passed_over=tuple(passed_over),
        )

    def _sweep(self, agreement: Agreement, *, newest: int) -> None:
        """Clear what no restore may use and the coming steps will write again: partial folders of the attempt
        that died, and rejected checkpoints, which are kept under another name as evidence."""
        root = self.context.root
        if self.context.rank == 0:
            committed = set(commit.committed_steps(root))
            for step in commit.all_steps(root):
                if step not in committed:
                    commit.remove(root, step)
                elif step > newest:
                    folder = commit.step_folder(root, step)
                    folder.rename(folder.with_name(f"rejected-{step:08d}-attempt{self.context.attempt}"))
        agreement.exchange("restore/swept", None)  # nobody writes a shard into a folder that is about to go
