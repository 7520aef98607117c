"""The shared store, the process group and the agreements of the ranks of one attempt."""

from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # re-exported by dist without saying so

from ecrl.checkpoint.agreement import Agreement
from ecrl.worker.rank_info import RankInfo

_STORE_TIMEOUT = timedelta(seconds=300)


def connect(rank_info: RankInfo) -> Store:
    """A new connection to torchrun's store. It sees only the keys of this attempt."""
    # torchrun keeps one store for all attempts, and `env://` does not prefix its keys. Without the prefix, the gloo
    # ranks of a restarted group would connect to addresses of the dead group.
    store = TCPStore(rank_info.store_host, rank_info.store_port, is_master=False, timeout=_STORE_TIMEOUT)
    return PrefixStore(f"attempt/{rank_info.attempt}", store)


def start_group(rank_info: RankInfo, backend: str) -> None:
    """Start the process group of this attempt."""
    dist.init_process_group(backend, store=connect(rank_info), rank=rank_info.rank, world_size=rank_info.world_size)


def new_agreement(rank_info: RankInfo, topic: str, timeout_s: float) -> Agreement:
    """An agreement of all ranks on `topic`, with its own store connection."""
    store = PrefixStore(f"agree/{topic}", connect(rank_info))
    return Agreement(store, rank_info.rank, rank_info.world_size, timeout_s)
