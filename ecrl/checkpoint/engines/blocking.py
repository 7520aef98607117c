"""`blocking`: training waits until the checkpoint is written, fsynced and committed on every rank."""

from ecrl.checkpoint.engine import EngineContext, EnginePlugin
from ecrl.checkpoint.sharded.engine import ShardedEngine
from ecrl.checkpoint.sharded.snapshot import LiveSlot, LiveStager, Slot, Stager
from ecrl.checkpoint.sharded.ticket import Ticket
from ecrl.checkpoint.state_view import Layout


class Blocking(ShardedEngine):
    """Persist and commit inline, on the training thread: on a CPU the live state, else a snapshot of it."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(context)
        if context.device.type == "cpu":
            self.num_slots = 0

    def _make_stager(self) -> Stager:
        return LiveStager() if self.context.device.type == "cpu" else super()._make_stager()

    def _make_slots(self, layout: Layout, pinned: bool) -> list[Slot]:
        return super()._make_slots(layout, pinned) or [LiveSlot(layout)]

    def _prepare(self) -> None:
        super()._prepare()
        self._agreement = self.context.agree()

    def synchronize_if_due(self, step: int) -> None:
        if self.is_due(step):
            self._stager.synchronize()

    def _acquire(self, step: int) -> Ticket:
        return Ticket(step, self._slots[0])

    def _stage(self, ticket: Ticket) -> None:
        self._begin_copy(ticket)
        self.context.reached("staging", ticket.step)
        self._stager.wait(ticket.slot)

    def _release(self, ticket: Ticket) -> None:
        self._persist_and_commit(ticket, self._agreement)

    def _drain(self) -> None:
        self._stager.close()


PLUGIN = EnginePlugin(
    description="persist and commit while training waits (from a GPU: a snapshot)",
    make=Blocking,
    durable=True,
    verified=True,
    exact=True,
    falls_back=True,
    sharded=True,
    late_state=True,
    ignores_max_inflight=True,
    streams=True,
)
