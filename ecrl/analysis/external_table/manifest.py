"""Reading of a manifest that belongs to another tool's table. Unlike ecrl's own manifest, it may lack columns."""

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.errors import EcrlError, did_you_mean
from ecrl.records.manifest.store import COLUMNS, STATUSES

# The place of a planned failure: 400, 900@persist, 412.5s (see ecrl/records/failure_checks.py).
PLACE = r"[0-9]{1,12}(?:@[a-z][a-z0-9-]*|(?:\.[0-9]+)?s)?"
_WHOLE = re.compile(r"[0-9]{1,12}")
_KEY = ("dataset", "model", "failure_label")
_SHARED = ("failure_steps", "checkpoint_every", "max_inflight", "nproc", "steps")  # a table may have them, too


@dataclass(frozen=True)
class Plan:
    """A suite's plan. A value that the manifest does not have is None or empty. key: data set, model, failure label."""

    key: tuple[str, str, str] = ("", "", "")
    suite_id: str = ""
    failure_steps: str = ""
    checkpoint_every: int | None = None
    max_inflight: int | None = None
    nproc: int | None = None
    steps: int | None = None
    seeds: tuple[int, ...] = ()
    status: str = ""

    def list_conflicts(self, values: Mapping[str, Any]) -> list[str]:
        """What a table's row says otherwise, as texts. values: of the row, by column."""
        found = [
            f"{name} {values[name]}, the manifest says {planned}"
            for name in _SHARED
            if (planned := getattr(self, name)) and values.get(name) and str(values[name]) != str(planned)
        ]
        n, seed = values.get("n_seeds") or 0, values.get("seed")
        if self.seeds and n > len(self.seeds):
            found.append(f"n_seeds {n}, the manifest has {len(self.seeds)}")
        if self.seeds and seed is not None and seed not in self.seeds:
            found.append(f"seed {seed}, the manifest has {', '.join(map(str, self.seeds))}")
        return found


def find_plan(plans: Sequence[Plan], key: tuple[str, str, str], values: Mapping[str, Any]) -> Plan | None:
    """The plan of a row, None if the manifest has none. Of several that fit, only what they agree on."""
    named = [plan for plan in plans if plan.suite_id and plan.suite_id == values.get("suite_id")]
    own = named or [plan for plan in plans if plan.key == key]
    fitting = [plan for plan in own if not plan.list_conflicts(values)] or own
    if not fitting:
        return None
    agreed = {
        field.name: getattr(fitting[0], field.name)
        for field in dataclasses.fields(Plan)
        if len({getattr(plan, field.name) for plan in fitting}) == 1
    }
    return Plan(**agreed)


def read_manifest(path: Path, warnings: list[str]) -> list[Plan]:
    """The plans, in order.

    Raises:
        EcrlError: the manifest cannot be read, or it lacks one of the three columns that name a suite.
    """
    try:
        lines = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise EcrlError("ECRL-705", f"{path}: cannot be read as a CSV manifest: {error}.") from None
    header = [cell.strip() for cell in lines[0]] if lines else []
    if missing := [column for column in _KEY if column not in header]:
        near = did_you_mean(missing[0], header)
        raise EcrlError(
            "ECRL-706",
            f"{path}: missing columns: {', '.join(missing)}.{near}\nFound: {', '.join(header) or 'nothing'}.",
        )
    unknown = [column for column in header if column not in COLUMNS]
    warnings += [f"{path.name}: column {column!r} is not known and was left out" for column in unknown]
    rows = [dict(zip(header, (cell.strip() for cell in line), strict=False)) for line in lines[1:]]
    return [_plan(cells, n, path, warnings) for n, cells in enumerate(rows, start=1) if any(cells.values())]


def _plan(cells: dict[str, str], number: int, path: Path, warnings: list[str]) -> Plan:
    def warn(column: str, text: str, problem: str) -> None:
        warnings.append(f"{path.name}: row {number}, column {column}: {text[:40]!r} {problem}")

    def read_int(column: str) -> int | None:
        text = cells.get(column, "")
        if text and not _WHOLE.fullmatch(text):
            warn(column, text, "is not a whole number; left out")
        return int(text) if _WHOLE.fullmatch(text) else None

    def read_list(column: str, what: str, pattern: re.Pattern[str]) -> list[str]:
        """All entries of a cell; none if one of them is invalid, as part of a plan would be a different plan."""
        parts = [part for part in re.split("[,; ]", cells.get(column, "")) if part]
        bad = [part for part in parts if not pattern.fullmatch(part)]
        if bad:
            warn(column, bad[0], f"is not {what}; the cell is left out")
        return [] if bad else parts

    status = cells.get("status", "")
    if status and status not in STATUSES:
        warn("status", status, f"is no status ({', '.join(STATUSES)}); left out")
    return Plan(
        (cells.get("dataset", ""), cells.get("model", ""), cells.get("failure_label", "")),
        cells.get("suite_id", ""),
        ";".join(read_list("failure_steps", "a place like 400, 900@persist or 412.5s", re.compile(PLACE))),
        read_int("checkpoint_every"),
        read_int("max_inflight"),
        read_int("nproc"),
        read_int("steps"),
        tuple(map(int, read_list("seeds", "a whole number", _WHOLE))),
        status if status in STATUSES else "",
    )
