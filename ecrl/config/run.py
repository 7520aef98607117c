"""The specification of one run: the content of `run.json`, a worker's only source of settings."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ecrl.config.hashing import NEVER, Later, content_hash, fill_legacy, identity
from ecrl.config.job import JobSettings
from ecrl.config.recipe import REFERENCE, Recipe
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.errors import RecordError
from ecrl.storage.atomic import write_atomic

RUN_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One run: suite x variant x seed. It holds every setting that a worker needs, with nothing left to look up.

    failures: the plan, as built before launch by `ecrl.config.failure_schedule.build_plan` (empty for `reference`).
    block_order: the variants of this (suite, seed) in the order they run. block_position: this run's index in it.
    token: identifies ecrl's attempt at this run; a later attempt has a higher token (0: none was given).
    axes: the values of the axes that identify the run and set a key that otherwise identifies nothing.
    job: the script that the run executes; None: it trains `model` on `dataset`.
    recipe: the recipe of the variant; None for `reference` and for an engine without options under its own name.
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
    axes: Annotated[Mapping[str, Any], Later(legacy={})] = dataclasses.field(default_factory=dict)
    job: Annotated[JobSettings | None, Later(legacy=None)] = None
    schema: int = RUN_SCHEMA

    @property
    def hash(self) -> str:
        """SHA-256 of the fields that decide the outcome. Runs with the same hash are the same run, under any prefix.

        A `result.json` counts for this run only if it names this hash.
        """
        return content_hash(identity(self))

    @property
    def engine(self) -> str | None:
        """The checkpoint engine of the run; None for `reference`."""
        if self.recipe is not None:
            return self.recipe.engine
        return None if self.variant == REFERENCE else self.variant

    @property
    def engine_options(self) -> Mapping[str, Any]:
        """The options of the engine. A missing option has its legacy value."""
        return {} if self.recipe is None else self.recipe.options

    @property
    def folder_name(self) -> str:
        """The name of the run's folder: the variant, or the name of the A/A repeat."""
        return self.block_order[self.block_position] if self.block_order else self.variant

    @property
    def checkpoints_requested(self) -> int:
        """The number of checkpoints that an uninterrupted run requests: one at every multiple of checkpoint_every."""
        return 0 if self.engine is None else self.train.steps // self.checkpoint_every

    def write(self, path: Path) -> None:
        """Write `run.json` atomically: the fields and the content hash."""
        write_atomic(path, json.dumps(dataclasses.asdict(self) | {"run_hash": self.hash}, indent=1).encode())

    @classmethod
    def read(cls, path: Path) -> "RunSpec":
        """Read a `run.json`. Fields that an older ecrl did not write get their legacy values.

        Raises:
            RecordError: the file is missing, is not JSON, has another schema, or was edited (the hash does not match).
        """
        try:
            raw = json.loads(path.read_text())
            stored_hash = raw.pop("run_hash")
            spec = cls(
                **fill_legacy(cls, raw)
                | {
                    "train": TrainSettings(**fill_legacy(TrainSettings, raw["train"])),
                    "checkpoint": _read_checkpoint(raw["checkpoint"]),
                    "failures": tuple(raw["failures"]),
                    "job": None if raw.get("job") is None else JobSettings(**raw["job"]),
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


def _read_checkpoint(raw: Mapping[str, Any]) -> CheckpointSettings:
    fallbacks = tuple(raw.get("fallback_dirs", ()))  # lists in JSON; settings are hashable
    return CheckpointSettings(**fill_legacy(CheckpointSettings, raw) | {"fallback_dirs": fallbacks})
