"""The tables `[train]` and `[checkpoint]`. `matrix.py` validates them with the bounds annotated here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from ecrl.config.hashing import Later


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """`[train]`: how every run of a campaign trains.

    steps: optimizer steps of a complete run. batch_size: samples per rank and step. nproc: ranks.
    lr is the peak rate, reached after warmup_steps and then following `schedule`.
    threads: CPU threads per rank. deterministic: bitwise reproducible kernels, required for C6.
    launcher: who starts the ranks. cold: torchrun, as users run it; warm: its agent kept from run to run, with
    ranks forked from a server that has everything imported.
    backend: how ranks talk. auto: NCCL between GPUs, gloo on the CPU; gloo on GPUs lets several ranks share one.
    """

    steps: Annotated[int, Ge(1)]
    batch_size: Annotated[int, Ge(1)] = 128
    nproc: Annotated[int, Ge(1)] = 1
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Gt(0)] = 0.05
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    weight_decay: Annotated[float, Ge(0)] = 5e-4
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: Annotated[int, Ge(0)] = 0
    augment: bool = True
    deterministic: bool = True
    threads: Annotated[int, Ge(1)] = 1
    launcher: Literal["cold", "warm"] = "cold"
    backend: Annotated[Literal["auto", "nccl", "gloo"], Later(legacy="auto")] = "auto"

    def get_backend(self, device: str) -> str:
        """The back end of the ranks' process group on a device (cpu or cuda): `auto` decided."""
        return self.backend if self.backend != "auto" else "nccl" if device == "cuda" else "gloo"


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """`[checkpoint]`: keep = committed checkpoints kept while a run goes on; commit_timeout_s = how long a
    rank waits for the others to make their shards durable before a checkpoint is given up and counted."""

    keep: Annotated[int, Ge(2)] = 2
    commit_timeout_s: Annotated[float, Gt(0), Le(86400)] = 120.0
