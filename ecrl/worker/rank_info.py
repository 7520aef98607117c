"""This worker's rank in its group. Only this file reads torchrun's environment variables. Loads no torch."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class RankInfo:
    """One rank of the group. attempt: 0 at the start, plus 1 at each restart of the group.

    store_host, store_port: the address of torchrun's key-value store.
    """

    rank: int
    local_rank: int
    world_size: int
    attempt: int
    store_host: str
    store_port: int


def read_rank_info() -> RankInfo:
    """The rank that torchrun assigned to this process."""
    env = os.environ
    return RankInfo(
        rank=int(env["RANK"]),
        local_rank=int(env["LOCAL_RANK"]),
        world_size=int(env["WORLD_SIZE"]),
        attempt=int(env["TORCHELASTIC_RESTART_COUNT"]),
        store_host=env["MASTER_ADDR"],
        store_port=int(env["MASTER_PORT"]),
    )


def read_script_launch() -> tuple[int, int, str]:
    """What the launcher of a user's script says: the number of ranks, the attempt, and the host that all can reach."""
    env = os.environ
    attempt = env.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(env.get("WORLD_SIZE", "1")), int(attempt), env.get("MASTER_ADDR", "127.0.0.1")
