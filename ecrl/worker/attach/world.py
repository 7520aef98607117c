"""The ranks of a user's script, and the store through which they agree."""

from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore, PrefixStore, Store, TCPStore  # dist re-exports them silently

from ecrl.checkpoint.agreement import Agreement
from ecrl.errors import EcrlError
from ecrl.worker.rank_info import read_script_launch


class World:
    """The ranks that call `ecrl.attach` together. They agree through a store of ecrl's own, which rank 0 hosts.

    Raises:
        EcrlError: the launcher started several ranks, and the script has no process group.
    """

    # The script's own store would not do: ecrl cannot know who else uses its keys, nor how to connect to it again.
    def __init__(self, device: torch.device) -> None:
        num_ranks, self.attempt, self._host = read_script_launch()
        has_group = dist.is_available() and dist.is_initialized()
        if num_ranks > 1 and not has_group:
            raise EcrlError(
                "ECRL-656",
                f"ecrl.attach: found no process group in a job of {num_ranks} ranks, expected one.\n"
                "Call torch.distributed.init_process_group() before ecrl.attach.",
            )
        self.rank, self.size = (dist.get_rank(), dist.get_world_size()) if has_group else (0, 1)
        self._own: Store = HashStore()
        if self.size > 1:
            self._host_store(device)
        self._number = 0

    def _host_store(self, device: torch.device) -> None:
        port = 0
        if self.rank == 0:
            store = TCPStore(self._host, 0, is_master=True, wait_for_workers=False)
            self._own, port = store, store.port
        address: list[Any] = [self._host, port]
        dist.broadcast_object_list(address, src=0, device=device if dist.get_backend() == "nccl" else None)
        self._host, self._port = address

    def new_agreement(self, timeout_s: float) -> Agreement:
        """A new agreement, with a store connection of its own. All ranks ask for the same ones in the same order."""
        self._number += 1
        own = self._own if self.size == 1 else TCPStore(self._host, self._port, is_master=False)
        return Agreement(PrefixStore(str(self._number), own), self.rank, self.size, timeout_s)

    def leave(self, timeout_s: float) -> None:
        """Wait, on the rank that hosts the store, until no rank needs it any more."""
        agreement = self.new_agreement(timeout_s)
        agreement.publish("left", None)
        if self.rank == 0:
            agreement.gather_all("left")
