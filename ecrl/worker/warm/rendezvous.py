"""A rendezvous for a single node, which waits for no other node.

torchrun's own rendezvous (`--standalone`: c10d) waits a random 0 to 0.3 s before the first start and the first restart,
to protect a backend that other nodes share. It also scans every imported module to name the caller in its log. Both
together take most of the time of a warm restart.
"""

from typing import Any

from torch._C._distributed_c10d import PrefixStore, TCPStore  # re-exported by torch.distributed without saying so
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousParameters
from torch.distributed.elastic.rendezvous.api import RendezvousStoreInfo

BACKEND = "ecrl-alone"


class SingleNodeRendezvous(RendezvousHandler):
    """One store for the whole run, on a port chosen by the kernel. The ranks share it, as with torchrun."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)

    def get_backend(self) -> str:
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        here = RendezvousStoreInfo("localhost", self._store.port)
        return RendezvousInfo(PrefixStore(self._run_id, self._store), 0, 1, here)

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None: ...

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self._run_id

    def shutdown(self) -> bool:
        return True


def make(parameters: RendezvousParameters) -> Any:
    """Create the rendezvous. torchrun's registry of rendezvous backends calls this function."""
    return SingleNodeRendezvous(parameters.run_id)
