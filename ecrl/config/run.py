"""What one run is: the whole of `run.json`, which is all that a worker is told."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ecrl.config.hashing import NEVER, Later, content_hash, fill_legacy, identity
from ecrl.config.recipe import REFERENCE, Recipe
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.errors import RecordError
from ecrl.storage.atomic import write_atomic

RUN_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: suite x variant x seed, with everything a worker needs and nothing it must look up.

    failures: the plan, decided before launch, as written by `ecrl.config.failure_schedule.build_plan` (empty for
    `reference`).
    block_order / block_position: the variants of this (suite, seed) in the order they run, and this one's place.
    token: which attempt of ecrl's at this run it is; a later one has a higher one (0: none was given).
    recipe: what the variant is made of; None for `reference` and for the engine of that name without options.
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
    recipe: Annotated[Recipe | None, Later(legacy=None)] = None
    schema: int = RUN_SCHEMA

    @property
    def hash(self) -> str:
        """SHA-256 of what decides the outcome: two runs with one hash are the same run, wherever they stand.

        `result.json` must name it to count for this run.
        """
        return content_hash(identity(self))

    @property
    def engine(self) -> str | None:
        """The engine that takes its checkpoints; None for `reference`."""
        if self.recipe is not None:
            return self.recipe.engine
        return None if self.variant == REFERENCE else self.variant

    @property
    def engine_options(self) -> Mapping[str, Any]:
        """The options of the engine; those that are not told have its legacy values."""
        return {} if self.recipe is None else self.recipe.options

    @property
    def folder_name(self) -> str:
        """The name of its folder: its variant, or that of the A/A repeat."""
        return self.block_order[self.block_position] if self.block_order else self.variant

    @property
    def checkpoints_requested(self) -> int:
        """Checkpoints an uninterrupted run asks for: one at every boundary, the last step included."""
        return 0 if self.engine is None else self.train.steps // self.checkpoint_every

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
                    "recipe": None if raw.get("recipe") is None else Recipe(**raw["recipe"]),
                    "block_order": tuple(raw["block_order"]),
                }
            )
        except FileNotFoundError:
            raise RecordError("ECRL-403", f"{path}: not found. A run folder holds a run.json.") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError("ECRL-403", f"{path}: not a run.json of schema {RUN_SCHEMA} ({error}).") from error
        if spec.schema != RUN_SCHEMA or spec.hash != stored_hash:
            raise RecordError("ECRL-403", f"{path}: content does not match its run_hash; it was edited or damaged.")
        return spec
