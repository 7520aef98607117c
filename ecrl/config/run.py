"""What one run is: the whole of `run.json`, which is all that a worker is told. Standard library only.

The settings below are also the tables of a matrix file: `matrix.py` validates them with the bounds
annotated here, so each setting is defined once.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from ecrl.config.hashing import NEVER, content_hash, fill_legacy, identity
from ecrl.errors import RecordError
from ecrl.storage.atomic import write_atomic

RUN_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """`[train]`: how every run of a campaign trains.

    steps: optimizer steps of a complete run. batch_size: samples per rank and step. nproc: ranks.
    lr is the peak rate, reached after warmup_steps and then following `schedule`.
    threads: CPU threads per rank. deterministic: bitwise reproducible kernels, required for C6.
    launcher: who starts the ranks. cold: torchrun, as users run it; warm: its agent kept from run to run, with
    ranks forked from a server that has everything imported.
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


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """`[checkpoint]`: keep = committed checkpoints kept while a run goes on; commit_timeout_s = how long a
    rank waits for the others to make their shards durable before a checkpoint is given up and counted."""

    keep: Annotated[int, Ge(2)] = 2
    commit_timeout_s: Annotated[float, Gt(0), Le(86400)] = 120.0


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: suite x variant x seed, with everything a worker needs and nothing it must look up.

    failures: the plan, decided before launch, as written by `ecrl.config.failure_schedule.build_plan` (empty for
    `reference`).
    block_order / block_position: the variants of this (suite, seed) in the order they run, and this one's place.
    token: which attempt of ecrl's at this run it is; a later one has a higher one (0: none was given).
    """

    prefix: Annotated[str, NEVER]
    suite_id: Annotated[str, NEVER]
    dataset: str
    model: str
    failure_label: Annotated[str, NEVER]
    checkpoint_every: int
    max_inflight: int
    variant: str
    seed: int
    device: str
    train: TrainSettings
    checkpoint: CheckpointSettings
    failures: tuple[dict[str, Any], ...]
    data_root: Annotated[str | None, NEVER] = None
    block_order: Annotated[tuple[str, ...], NEVER] = ()
    block_position: Annotated[int, NEVER] = 0
    claims_hash: Annotated[str | None, NEVER] = None
    token: Annotated[int, NEVER] = 0
    schema: int = RUN_SCHEMA

    @property
    def hash(self) -> str:
        """SHA-256 of what decides the outcome: two runs with one hash are the same run, wherever they stand.

        `result.json` must name it to count for this run.
        """
        return content_hash(identity(self))

    @property
    def folder_name(self) -> str:
        """The name of its folder: its variant, or that of the A/A repeat."""
        return self.block_order[self.block_position] if self.block_order else self.variant

    @property
    def checkpoints_requested(self) -> int:
        """Checkpoints an uninterrupted run asks for: one at every boundary, the last step included."""
        return 0 if self.variant == "reference" else self.train.steps // self.checkpoint_every

    def write(self, path: Path) -> None:
        """Write `run.json` atomically, the content hash beside the fields."""
        write_atomic(path, json.dumps(dataclasses.asdict(self) | {"run_hash": self.hash}, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> "RunSpec":
        """Read a `run.json`; what an older ecrl did not write is at its legacy value.

        Raises:
            RecordError: missing, not JSON, another schema, or edited (the hash no longer fits).
        """
        try:
            raw = json.loads(path.read_text())
            stored_hash = raw.pop("run_hash")
            spec = cls(
                **fill_legacy(cls, raw)
                | {
                    "train": TrainSettings(**fill_legacy(TrainSettings, raw["train"])),
                    "checkpoint": CheckpointSettings(**fill_legacy(CheckpointSettings, raw["checkpoint"])),
                    "failures": tuple(raw["failures"]),
                    "block_order": tuple(raw["block_order"]),
                }
            )
        except FileNotFoundError:
            raise RecordError(f"{path}: not found. A run folder holds a run.json.") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(f"{path}: not a run.json of schema {RUN_SCHEMA} ({error}).") from error
        if spec.schema != RUN_SCHEMA or spec.hash != stored_hash:
            raise RecordError(f"{path}: content does not match its run_hash; it was edited or damaged.")
        return spec
