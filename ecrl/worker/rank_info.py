"""This worker's place in its group: the only file that reads torchrun's environment variables. No torch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class RankInfo:
    """One rank among the others. attempt: 0 at first, +1 at each restart of the group. store_host,
    store_port: where torchrun's key-value store listens."""

    rank: int
    local_rank: int
    world_size: int
    attempt: int
    store_host: str
    store_port: int


def read_rank_info() -> RankInfo:
    """The place that torchrun gave this process."""
    env = os.environ
    return RankInfo(
        rank=int(env["RANK"]),
        local_rank=int(env["LOCAL_RANK"]),
        world_size=int(env["WORLD_SIZE"]),
        attempt=int(env["TORCHELASTIC_RESTART_COUNT"]),
        store_host=env["MASTER_ADDR"],
        store_port=int(env["MASTER_PORT"]),
    )
