"""The ranks of one attempt: the store they share, their process group, their agreements."""

from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore  # re-exported by dist without saying so

from ecrl.checkpoint.agreement import Agreement
from ecrl.worker.place import Place

_STORE_TIMEOUT = timedelta(seconds=300)


def connect(place: Place) -> Store:
    """A new connection to torchrun's store, seeing this attempt's keys only.

    torchrun keeps one store over all attempts and `env://` does not prefix its keys: without the prefix the
    gloo ranks of a restarted group would connect to addresses of the dead one.
    """
    store = TCPStore(place.store_host, place.store_port, is_master=False, timeout=_STORE_TIMEOUT)
    return PrefixStore(f"attempt/{place.attempt}", store)


def start_group(place: Place, device_type: str) -> None:
    """Start the process group: NCCL for CUDA, gloo otherwise."""
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, store=connect(place), rank=place.rank, world_size=place.world_size)


def new_agreement(place: Place, topic: str, timeout_s: float) -> Agreement:
    """An agreement of all ranks about `topic` on a store connection of its own."""
    store = PrefixStore(f"agree/{topic}", connect(place))
    return Agreement(store, place.rank, place.world_size, timeout_s)
