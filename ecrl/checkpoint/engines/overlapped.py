"""`overlapped`: the copy runs during the next forward and backward; the rest happens in the background."""

import queue
import threading

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import EngineContext, EnginePlugin
from ecrl.checkpoint.sharded.engine import ShardedEngine
from ecrl.checkpoint.sharded.snapshot import Slot
from ecrl.checkpoint.sharded.ticket import Ticket


class Overlapped(ShardedEngine):
    """At most `max_inflight` checkpoints are snapshotted but not yet committed. `save` waits for a free slot.

    One persister thread per rank takes tickets in step order, so checkpoints commit in step order or not at all.
    """

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        self.num_slots = context.max_inflight
        self._free: queue.SimpleQueue[Slot | None] = queue.SimpleQueue()
        self._tickets: queue.SimpleQueue[Ticket | None] = queue.SimpleQueue()
        self._bug: BaseException | None = None

    def _prepare(self) -> None:
        super()._prepare()
        for slot in self._slots:
            self._free.put(slot)
        agreement = self.context.agree()
        self._persister = threading.Thread(target=self._run, args=(agreement,), name="ecrl-persist", daemon=True)
        self._persister.start()

    def _acquire(self, step: int) -> Ticket:
        slot = self._free.get()
        if slot is None:
            raise RuntimeError("the persister thread ended") from self._bug
        return Ticket(step, slot)

    def _stage(self, ticket: Ticket) -> None:
        self._begin_copy(ticket)
        self.context.reached("staging", ticket.step)  # the persister does not have the ticket yet

    def _release(self, ticket: Ticket) -> None:
        self._tickets.put(ticket)

    def _drain(self) -> None:
        self._tickets.put(None)
        self._persister.join()
        self._stager.close()
        if self._bug is not None:
            raise RuntimeError("the persister thread ended") from self._bug

    def _run(self, agreement: Agreement) -> None:
        try:
            while (ticket := self._tickets.get()) is not None:
                self._stager.wait(ticket.slot)
                self.context.recorder.event("staged", s=ticket.step)
                self._persist_and_commit(ticket, agreement)
                self._free.put(ticket.slot)
        except BaseException as error:  # a bug in ecrl, not a failed disk: it must end the run, not only this thread
            self._bug = error
            self._free.put(None)


PLUGIN = EnginePlugin(
    description="snapshot under the next forward and backward, persist and commit in the background",
    make=Overlapped,
    durable=True,
    verified=True,
    exact=True,
    falls_back=True,
    sharded=True,
    late_state=True,
)
