"""The ranks of one attempt: the store they share, their process group, their agreements."""

from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # re-exported by dist without saying so

from ecrl.checkpoint.agreement import Agreement
from ecrl.worker.rank_info import RankInfo

_STORE_TIMEOUT = timedelta(seconds=300)


def connect(rank_info: RankInfo) -> Store:
    """A new connection to torchrun's store, seeing this attempt's keys only.

    torchrun keeps one store over all attempts and `env://` does not prefix its keys: without the prefix the
    gloo ranks of a restarted group would connect to addresses of the dead one.
    """
    store = TCPStore(rank_info.store_host, rank_info.store_port, is_master=False, timeout=_STORE_TIMEOUT)
    return PrefixStore(f"attempt/{rank_info.attempt}", store)


def start_group(rank_info: RankInfo, backend: str) -> None:
    """Start the process group."""
    dist.init_process_group(backend, store=connect(rank_info), rank=rank_info.rank, world_size=rank_info.world_size)


def new_agreement(rank_info: RankInfo, topic: str, timeout_s: float) -> Agreement:
    """An agreement of all ranks about `topic` on a store connection of its own."""
    store = PrefixStore(f"agree/{topic}", connect(rank_info))
    return Agreement(store, rank_info.rank, rank_info.world_size, timeout_s)
