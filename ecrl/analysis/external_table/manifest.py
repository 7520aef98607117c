"""Reading of a manifest that belongs to another tool's table. Unlike ecrl's own manifest, it may lack columns."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EcrlError, did_you_mean
from ecrl.records.manifest.store import COLUMNS

# The place of a planned failure: 400, 900@persist, 412.5s (see ecrl/records/failure_checks.py).
PLACE = r"[0-9]{1,12}(?:@[a-z][a-z0-9-]*|(?:\.[0-9]+)?s)?"
_WHOLE = re.compile(r"[0-9]{1,12}")
_KEY = ("dataset", "model", "failure_label")


@dataclass(frozen=True)
class Plan:
    """A suite's plan. A value that the manifest does not have is None or empty."""

    failure_steps: str = ""
    checkpoint_every: int | None = None
    max_inflight: int | None = None
    nproc: int | None = None
    steps: int | None = None
    seeds: tuple[int, ...] = ()
    status: str = ""


def read_manifest(path: Path, warnings: list[str]) -> dict[tuple[str, str, str], Plan]:
    """The plans by (dataset, model, failure label).

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
    plans: dict[tuple[str, str, str], Plan] = {}
    for number, line in enumerate(lines[1:], start=1):
        cells = dict(zip(header, (cell.strip() for cell in line), strict=False))
        if not any(cells.values()):
            continue
        key = (cells.get("dataset", ""), cells.get("model", ""), cells.get("failure_label", ""))
        if key in plans:
            warnings.append(f"{path.name}: row {number} repeats suite {', '.join(key)}; the first one is used")
            continue
        plans[key] = _plan(cells, number, path, warnings)
    return plans


def _plan(cells: dict[str, str], number: int, path: Path, warnings: list[str]) -> Plan:
    def read_int(column: str) -> int | None:
        text = cells.get(column, "")
        if text and not _WHOLE.fullmatch(text):
            warnings.append(
                f"{path.name}: row {number}, column {column}: {text[:40]!r} is not a whole number; left out"
            )
        return int(text) if _WHOLE.fullmatch(text) else None

    def read_list(column: str, what: str, pattern: re.Pattern[str]) -> list[str]:
        """All entries of a cell; none if one of them is invalid, as part of a plan would be a different plan."""
        parts = [part for part in re.split("[,; ]", cells.get(column, "")) if part]
        bad = [part for part in parts if not pattern.fullmatch(part)]
        if bad:
            warnings.append(
                f"{path.name}: row {number}, column {column}: {bad[0][:40]!r} is not {what}; the cell is left out"
            )
        return [] if bad else parts

    return Plan(
        ";".join(read_list("failure_steps", "a place like 400, 900@persist or 412.5s", re.compile(PLACE))),
        read_int("checkpoint_every"),
        read_int("max_inflight"),
        read_int("nproc"),
        read_int("steps"),
        tuple(map(int, read_list("seeds", "a whole number", _WHOLE))),
        cells.get("status", ""),
    )
