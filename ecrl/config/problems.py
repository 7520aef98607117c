"""Problems of a matrix file, each named with its place in the file."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from ecrl.config import failure_schedule as failures
from ecrl.config.failure_entry import FailureEntry, find_entry_table, get_key_meanings
from ecrl.config.matrix import (
    LABEL,
    Axes,
    CheckpointTable,
    Claim,
    Experiment,
    JobTable,
    Matrix,
    RunOptions,
    Schedule,
    TrainTable,
    get_table,
)
from ecrl.config.toml_lines import Locator
from ecrl.config.train import CheckpointSettings
from ecrl.errors import add_code, did_you_mean, find_nearest

Loc: TypeAlias = tuple[str | int, ...]

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's error types
# The names of validators, and of the choices of a union of types, in the place of an error.
_INTERNAL = re.compile(r"function-|(?:bool|int|float|str)$|\w+\[")
_BARE = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?|true|false")
_ENTRIES: TypeAdapter[list[FailureEntry]] = TypeAdapter(Schedule)


@dataclass
class Sources:
    """The source of each value, for error messages: a flag, or a file with a line."""

    path: Path
    locator: Locator
    profile: str | None

    def __post_init__(self) -> None:
        self.overridden: dict[Loc, str] = {}

    def name(self, loc: Loc) -> str:
        """The flag that gave the value at `loc`; else the file, with the line if it is known."""
        for end in range(len(loc), 0, -1):
            if (flag := self.overridden.get(loc[:end])) is not None:
                return flag
        if loc[:1] == ("axes",) and len(loc) > 1 and self.locator.line(loc, least=2) is None:
            loc = ("axes", *str(loc[1]).split("."))  # the key was written without quotes
        line = None
        if self.profile is not None:  # only if the profile itself gives the key
            line = self.locator.line(("profiles", self.profile, *loc), least=2 + min(len(loc), 2))
        line = line or self.locator.line(loc)
        return f"{self.path}:{line}" if line else str(self.path)

    def place(self, loc: Loc) -> str:
        """The source of the value at `loc`, and its key: 'm.toml:17: claims #1.compare #2'. Places count from 1."""
        key = "".join(f" #{part + 1}" if isinstance(part, int) else f".{part}" for part in loc)
        return f"{self.name(loc)}: {key.lstrip('.')}"


def find_shape_problems(raw: Mapping[str, Any], sources: Sources, context: Mapping[str, Any]) -> list[str]:
    try:
        Matrix.model_validate(raw, context=context)
    except ValidationError as error:
        errors = list(_merge_choices([(_read_loc(e, raw), e) for e in error.errors(include_url=False)]))
        misspelt = _find_misspelt(errors, raw)
        return [
            problem
            for loc, e in errors
            if not (e["type"] == "missing" and loc in misspelt)
            for problem in add_code(_code(e), [_explain(loc, e, sources, raw)])
        ]
    return []


def _read_loc(error: Any, raw: Mapping[str, Any]) -> Loc:
    """The keys and places of an error, without the names that pydantic gives to validators and choices of types."""
    loc: list[str | int] = []
    value: Any = raw
    for part in error["loc"]:
        if (isinstance(value, Mapping) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        ):
            value = value[part]
            loc.append(part)
        elif not _INTERNAL.match(str(part)):
            loc.append(part)
    return tuple(loc)


def _merge_choices(errors: Sequence[tuple[Loc, Any]]) -> Iterator[tuple[Loc, Any]]:
    """One error for each value that fits none of several types."""
    # Where a list is one of the types and the value is one, what is wrong inside it says more.
    inside = {loc[:-1] for loc, error in errors if isinstance(loc[-1], int) and error["type"] not in _UNKNOWN_KEY}
    groups: dict[Loc, list[Any]] = {}
    for loc, error in errors:
        groups.setdefault(loc, []).append(error)
    for loc, group in groups.items():
        kinds = [error for error in group if error["type"].endswith(("_type", "_parsing", "finite_number"))]
        if len(group) == 1 or len(kinds) < len(group):
            yield from ((loc, error) for error in group)
        elif loc not in inside:
            expected = [*dict.fromkeys(map(_describe_expected, group))]
            yield (
                loc,
                {"type": "none_of", "input": group[0]["input"], "msg": f"{', '.join(expected[:-1])} or {expected[-1]}"},
            )


def _find_misspelt(errors: Iterable[tuple[Loc, Any]], raw: Mapping[str, Any]) -> set[Loc]:
    """The keys that unknown keys of their table most likely stand for."""
    return {
        (*loc[:-1], near)
        for loc, error in errors
        if error["type"] in _UNKNOWN_KEY
        and (near := find_nearest(str(loc[-1]), _get_valid_keys(loc[:-1], raw))) is not None
    }


def _code(error: Any) -> str:
    return "ECRL-210" if error["type"] in _UNKNOWN_KEY else "ECRL-211"


def _explain(loc: Loc, error: Any, sources: Sources, raw: Mapping[str, Any]) -> str:
    where = sources.place(loc)
    match error["type"]:
        case name if name in _UNKNOWN_KEY:
            return f"{where}: {_explain_unknown_key(str(loc[-1]), _get_valid_keys(loc[:-1], raw))}"
        case "missing":
            return f"{where}: is missing and has no default"
        case "too_short" if error["input"] in ([], {}):
            return f"{where}: is empty, expected at least one value"
        case "model_type" | "dict_type":
            return f"{where}: found {error['input']!r}, expected {_describe_entry(loc, error['input'])}"
        case "list_type" | "tuple_type" if isinstance(error["input"], bool | int | float | str):
            example = f"{loc[-1]} = [{_find_bare(error['input']) or json.dumps(error['input'])}]"
            return f"{where}: found {error['input']!r}, expected a list, e.g. {example}"
    return f"{where}: {describe_problem(error)}"


def describe_problem(error: Any) -> str:
    """What pydantic found in a place, and what was expected there."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"found {error['input']!r}, expected {_describe_expected(error)}{_advise_on_quotes(error)}"


def _advise_on_quotes(error: Any) -> str:
    bare = _find_bare(error["input"]) if error["type"] in ("int_type", "float_type", "bool_type") else ""
    return f" without quotes: {bare}" if bare else ""


def _find_bare(found: Any) -> str:
    """The number or the truth value that stands in quotes; '' if it is none."""
    return found.strip() if isinstance(found, str) and _BARE.fullmatch(found.strip()) else ""


def _describe_expected(error: Any) -> str:
    return str(error["msg"]).removeprefix("Input should be ").removeprefix("a valid ")


def _describe_entry(loc: Loc, found: Any) -> str:
    """What stands at `loc`, where a table may stand."""
    if loc[0] != "failures" or len(loc) == 2:
        return "a table"
    step = found.strip() if isinstance(found, str) and found.strip().isdigit() else "12"
    return f"a step ({step}, without quotes) or a table"


def _explain_unknown_key(found: str, valid: Mapping[str, str]) -> str:
    """As `unknown_name`, with the meaning of every valid key that has one."""
    told = [f"{name} ({meaning})" if meaning else name for name, meaning in sorted(valid.items())]
    return f"unknown key {found!r}.{did_you_mean(found, valid)} Valid: {', '.join(told)}"


def _get_valid_keys(loc: Loc, raw: Mapping[str, Any]) -> dict[str, str]:
    """The keys of the table at `loc`; those of a planned failure with their meanings."""
    if not loc:
        return dict.fromkeys([*Matrix.model_fields, "profiles"], "")
    if loc[0] == "failures":
        return get_key_meanings(find_entry_table(raw["failures"][loc[1]][loc[2]]))
    tables: dict[str | int, Any] = {
        "experiment": Experiment, "matrix": Axes, "job": JobTable, "train": TrainTable, "checkpoint": CheckpointTable,
        "run": RunOptions, "claims": Claim,
    }  # fmt: skip
    return dict.fromkeys(tables[loc[0]].model_fields, "")


def find_schedule_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """Problems of schedules and checkpoint intervals that only several tables together show.

    Values of a wrong type are skipped; `find_shape_problems` reports them.
    """
    problems = []
    intervals = get_table(raw, "matrix").get("checkpoint_every")
    intervals = [e for e in intervals if isinstance(e, int) and e > 0] if isinstance(intervals, list) else []
    every_steps = _list_values(raw, "train.steps", None)
    for label, entries in get_table(raw, "failures").items():
        where = f"{sources.name(('failures', label))}: failures.{label}"
        if not LABEL.fullmatch(label):
            problems.append(f"{where}: found label {label!r}, expected at most 40 letters, digits, '_', '-', '.'")
        found: dict[str, None] = {}
        for steps, nproc, keep in itertools.product(
            every_steps,
            _list_values(raw, "train.nproc", 1 if "train" in raw else None),
            _list_values(raw, "checkpoint.keep", CheckpointSettings().keep),
        ):
            entries_there = _valid_entries(entries)
            keep = keep or CheckpointSettings().keep
            told = failures.find_problems(entries_there, intervals, steps=steps, nproc=nproc, keep=keep)
            found |= dict.fromkeys(told)
        problems += [f"{where}: {problem}" for problem in found]
    problems += [
        f"{sources.name(('matrix', 'checkpoint_every'))}: matrix.checkpoint_every: found {every}, past the last step"
        f" ({steps}): no checkpoint would be taken"
        for every in intervals
        for steps in every_steps
        if steps is not None and every > steps
    ]
    return problems


def find_backend_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """The backend NCCL together with the device cpu, as given by the file or a flag."""
    # If the device `auto` resolves to the CPU, the probe reports it.
    own = get_table(raw, "train").get("backend")
    if "nccl" not in get_table(raw, "axes").get("train.backend", [own]) or get_table(raw, "run").get("device") != "cpu":
        return []
    return [
        f"{sources.name(('train', 'backend'))}: train.backend: found 'nccl', expected 'auto' or 'gloo': NCCL needs"
        f" GPUs, and the device is cpu ({sources.name(('run', 'device'))})"
    ]


def _list_values(raw: Mapping[str, Any], key: str, default: int | None) -> list[int | None]:
    """The values of a whole-number key: those of its axis if it has one, else its own. None for another type."""
    table, _, name = key.partition(".")
    own = get_table(raw, table).get(name, default)
    values = get_table(raw, "axes").get(key, [own])
    return [_read_int(value) for value in values] if isinstance(values, list) and values else [_read_int(own)]


def _valid_entries(entries: Any) -> list[FailureEntry]:
    """The entries of a schedule; an empty list if any of them is invalid."""
    try:
        return _ENTRIES.validate_python(entries)
    except ValidationError:
        return []


def _read_int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
