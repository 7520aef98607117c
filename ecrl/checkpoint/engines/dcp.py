"""`dcp`: PyTorch Distributed Checkpoint's `save`: every rank writes a part while training waits."""

from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import save

from ecrl.checkpoint.engine import EnginePlugin
from ecrl.checkpoint.external.dcp_format import DcpEngine


class Dcp(DcpEngine):
    """`dcp.save` of the live tensors, inline, on the training thread."""

    def _stage(self, ticket: int) -> None:
        self.context.reached("staging", ticket)  # no copy is made: `_release` writes the live tensors

    def _release(self, ticket: int) -> None:
        state, writer, planner = self._build_saved_dict(ticket), self._writer(ticket), self._planner(ticket)
        try:
            save(state, storage_writer=writer, planner=planner, process_group=self._group)
        except CheckpointException as error:
            self._handle_failure(ticket, error)
        else:
            self._record_commit(ticket)


PLUGIN = EnginePlugin(
    description="PyTorch Distributed Checkpoint save while training waits",
    make=Dcp,
    durable=False,
    verified=False,
    exact=True,
    sharded=True,
    ignores_max_inflight=True,
    limits="files fsynced, their folder not; retention is ecrl's",
    format={"complete": ".metadata", "parts": ("*.distcp",)},
    options={
        "thread_count": {
            "type": "int",
            "default": 1,
            "legacy": 1,
            "ge": 1,
            "help": "threads that write this rank's part, each into a file of its own (DCP's FileSystemWriter)",
        },
    },
)
