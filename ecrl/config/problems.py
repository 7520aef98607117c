"""Problems of a matrix file, each named with its place in the file."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from ecrl import plugins
from ecrl.config import failure_schedule as failures
from ecrl.config.failure_schedule import FailureEntry
from ecrl.config.matrix import Axes, CheckpointTable, Claim, Matrix, RunOptions, Schedule, TrainTable, get_table
from ecrl.config.toml_lines import Locator
from ecrl.config.train import CheckpointSettings
from ecrl.errors import unknown_name

Loc: TypeAlias = tuple[str | int, ...]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")  # part of folder names and of journal lines

_ENTRIES: TypeAdapter[list[FailureEntry]] = TypeAdapter(Schedule)


@dataclass
class Sources:
    """Where each value came from, for error messages."""

    path: Path
    locator: Locator
    profile: str | None

    def __post_init__(self) -> None:
        self.overridden: dict[tuple[str, str], str] = {}

    def name(self, loc: Loc) -> str:
        flag = self.overridden.get((str(loc[0]), str(loc[1]))) if len(loc) > 1 else None
        if flag is not None:
            return flag
        line = None
        if self.profile is not None:  # only where the profile itself gives the key
            line = self.locator.line(("profiles", self.profile, *loc), least=2 + min(len(loc), 2))
        line = line or self.locator.line(loc)
        return f"{self.path}:{line}" if line else str(self.path)


def find_shape_problems(raw: Mapping[str, Any], sources: Sources, context: Mapping[str, bool]) -> list[str]:
    try:
        Matrix.model_validate(raw, context=context)
    except ValidationError as error:
        return [_explain(e, sources) for e in error.errors(include_url=False)]
    return []


def _explain(error: Any, sources: Sources) -> str:
    loc: Loc = tuple(part for part in error["loc"] if not str(part).startswith("function-"))
    key = ".".join(map(str, loc))
    where = f"{sources.name(loc)}: {key}"
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"{where}: {unknown_name('key', str(loc[-1]), _valid_keys(loc[:-1]))}"
        case "missing":
            return f"{where}: not found, and it has no default"
        case "too_short" if error["input"] in ([], {}):
            return f"{where}: found it empty, expected at least one value"
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case "model_type" | "dict_type":
            return f"{where}: found {error['input']!r}, expected a table"
    expected = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{where}: found {error['input']!r}, expected {expected}"


def _valid_keys(loc: Loc) -> Iterable[str]:
    """The keys of the table at `loc`."""
    if not loc:
        return [*Matrix.model_fields, "profiles"]
    tables: dict[str | int, Any] = {
        "matrix": Axes, "train": TrainTable, "checkpoint": CheckpointTable, "run": RunOptions,
        "claims": Claim, "failures": FailureEntry,
    }  # fmt: skip
    return list(tables[loc[0]].model_fields)


def find_schedule_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """What only two tables together can show. Values of a wrong type are passed over: they are reported already."""
    problems = []
    train, matrix = get_table(raw, "train"), get_table(raw, "matrix")
    steps, nproc = _read_int(train.get("steps")), _read_int(train.get("nproc", 1))
    keep = _read_int(get_table(raw, "checkpoint").get("keep")) or CheckpointSettings().keep
    intervals = matrix.get("checkpoint_every")
    intervals = [e for e in intervals if isinstance(e, int) and e > 0] if isinstance(intervals, list) else []
    for label, entries in get_table(raw, "failures").items():
        where = f"{sources.name(('failures', label))}: failures.{label}"
        if not _LABEL.fullmatch(label):
            problems.append(f"{where}: found label {label!r}, expected at most 40 letters, digits, '_', '-', '.'")
        told = failures.find_problems(_valid_entries(entries), intervals, steps=steps, nproc=nproc, keep=keep)
        problems += [f"{where}: {problem}" for problem in told]
    problems += [
        f"{sources.name(('matrix', 'checkpoint_every'))}: matrix.checkpoint_every: found {every}, past the last step"
        f" ({steps}): no checkpoint would ever be taken"
        for every in intervals
        if isinstance(steps, int) and every > steps
    ]
    return problems


def _valid_entries(entries: Any) -> list[FailureEntry]:
    """The entries of a schedule, none if one of them is invalid."""
    try:
        return _ENTRIES.validate_python(entries)
    except ValidationError:
        return []


def _read_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def find_claim_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """Claims about engines that exist, but that this matrix does not run (an unknown engine is reported already)."""
    variants, claims = get_table(raw, "matrix").get("variants"), raw.get("claims")
    if not isinstance(variants, list) or not isinstance(claims, list):
        return []
    return [
        f"{sources.name(('claims', i, 'compare'))}: claims.{i}.compare: "
        + unknown_name("variant of this matrix", variant, map(str, variants))
        for i, claim in enumerate(claims)
        if isinstance(claim, Mapping) and isinstance(claim.get("compare"), list)
        for variant in claim["compare"]
        if variant in plugins.names("engine") and variant not in variants
    ]
