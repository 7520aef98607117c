"""The manifest: a CSV snapshot with one row a suite, and a journal of checksummed state changes beside it.

A change is one appended, fsynced journal line, whatever the number of suites. Readers merge both without a
lock; the writer (one per prefix, under the prefix's lock) folds the journal into the CSV when it opens and
closes. Journal records hold absolute values, so replaying one twice changes nothing.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecrl.errors import RecordError, did_you_mean
from ecrl.records import journal
from ecrl.records.journal import Journal, frame
from ecrl.records.paths import CampaignPaths, all_prefixes
from ecrl.storage.atomic import write_atomic

PENDING, RUNNING, COMPLETED = "pending", "running", "completed"
SKIPPED, FAILED, INTERRUPTED = "skipped_exists", "failed", "interrupted"
STATUSES = (PENDING, RUNNING, COMPLETED, SKIPPED, FAILED, INTERRUPTED)
DONE = (COMPLETED, SKIPPED)

COLUMNS = (
    "suite_id", "dataset", "model", "failure_label", "failure_steps", "checkpoint_every", "max_inflight", "nproc",
    "steps", "seeds", "variants", "status", "attempts", "runs_done", "runs_total", "started_at", "finished_at",
    "wall_s", "message",
)  # fmt: skip
# What a suite's state is made of: a journal record holds all of it that is not empty.
STATE = ("status", "attempts", "runs_done", "started_at", "finished_at", "wall_s", "message", "owner")
MAX_RECORD_BYTES = 500
# Columns that the frozen matrix decides.
FIXED = tuple(name for name in COLUMNS if name not in STATE)


@dataclass(frozen=True)
class Owner:
    """The ecrl process that a running suite belongs to. start_ticks: when the kernel started it, in ticks since
    the boot, so that setting the clock or handing out the pid again cannot fake it."""

    host: str
    boot_id: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One suite. attempts: how often ecrl has begun the suite; wall_s: sum over its finished runs.

    owner is in the journal only, and only while the suite is running.
    """

    suite_id: str
    dataset: str
    model: str
    failure_label: str
    failure_steps: tuple[int | str, ...]
    checkpoint_every: int
    max_inflight: int
    nproc: int
    steps: int
    seeds: tuple[int, ...]
    variants: tuple[str, ...]
    runs_total: int
    status: str = PENDING
    attempts: int = 0
    runs_done: int = 0
    started_at: str = ""
    finished_at: str = ""
    wall_s: float | None = None
    message: str = ""
    owner: Owner | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest's columns as JSON values: lists for joined columns, null for what is not known yet."""
        values = {name: getattr(self, name) for name in COLUMNS}
        return {k: list(v) if isinstance(v, tuple) else v if v != "" else None for k, v in values.items()}


@dataclass
class View:
    """What a reader sees: rows by suite id in manifest order, and what was damaged and dropped."""

    rows: dict[str, Row]
    warnings: list[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many suites have each status; every status is there."""
        counts = dict.fromkeys(STATUSES, 0)
        for row in self.rows.values():
            counts[row.status] += 1
        return counts


def utc_now() -> str:
    """The time as the manifest writes it: 2026-11-21T23:28:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(paths: CampaignPaths) -> View:
    """Merge CSV and journal, without a lock.

    Raises:
        RecordError: no manifest, or a CSV that no longer reads as one (names file, row, column).
    """
    for _ in range(20):
        before, warnings = _identity(paths.manifest), list[str]()
        text, records = _manifest_text(paths), journal.read(paths.journal, warnings)
        # The writer replaces the CSV first and empties the journal second: if the CSV is still the one that
        # was read, so is everything the journal held. Otherwise the state was folded in between: read again.
        if _identity(paths.manifest) == before:
            break
    rows = _parsed(text, paths.manifest)
    for record in records:
        if (row := rows.get(record.get("suite_id", ""))) is None:
            warnings.append(f"{paths.journal.name}: a change of the unknown suite {record.get('suite_id')} was dropped")
        else:
            rows[row.suite_id] = _with_state(row, record)
    return View(rows, warnings)


class Manifest:
    """The writer. Open it only under the prefix's lock."""

    def __init__(self, paths: CampaignPaths, rows: dict[str, Row], warnings: list[str]) -> None:
        self.paths = paths
        self.rows = rows
        self.warnings = warnings
        self._journal = Journal(paths.journal)

    @classmethod
    def create(cls, paths: CampaignPaths, rows: Iterable[Row]) -> "Manifest":
        """A new manifest on disk, with an empty journal."""
        manifest = cls(paths, {row.suite_id: row for row in rows}, [])
        manifest.compact()
        return manifest

    @classmethod
    def open(cls, paths: CampaignPaths) -> "Manifest":
        """Read what there is. The journal is folded in by the next `compact`, not before: until the stale rows
        have been judged, who owned them must not be forgotten.

        Raises:
            RecordError: see `read`.
        """
        view = read(paths)
        return cls(paths, view.rows, view.warnings)

    def record(self, suite_id: str, **changes: Any) -> Row:
        """Change a suite's state: one durable journal line, then the row in memory. Returns the new row."""
        row = replace(self.rows[suite_id], **changes)
        self._journal.append(_framed(row))
        self.rows[suite_id] = row
        return row

    def compact(self) -> None:
        """Fold the journal into the CSV. Killed between the two replacements, the journal is replayed once more
        over a CSV that holds it already, which changes nothing."""
        self.close()
        write_atomic(self.paths.manifest, _csv(self.rows.values()))
        # An owner has no column: what is still running keeps its line.
        running = b"".join(_framed(row) for row in self.rows.values() if row.owner is not None)
        write_atomic(self.paths.journal, running)

    def close(self) -> None:
        """Close the journal; every line in it is durable already."""
        self._journal.close()


def _framed(row: Row) -> bytes:
    state = {name: value for name in STATE if (value := getattr(row, name)) not in ("", None, 0)}
    if row.owner is not None:
        state["owner"] = dataclasses.asdict(row.owner)
    line = frame({"suite_id": row.suite_id, **state})
    while len(line) > MAX_RECORD_BYTES and state.get("message"):  # the message alone has no bound of its own
        excess = max(len(line) - MAX_RECORD_BYTES, 4)
        state["message"] = state["message"].removesuffix("…").encode()[: -(excess + 3)].decode(errors="ignore")
        state["message"] = state["message"] + "…" if state["message"] else ""
        line = frame({"suite_id": row.suite_id, **state})
    return line


def _with_state(row: Row, record: Mapping[str, Any]) -> Row:
    owner = record.get("owner")
    return replace(
        row,
        status=record["status"],
        attempts=record.get("attempts", 0),
        runs_done=record.get("runs_done", 0),
        started_at=record.get("started_at", ""),
        finished_at=record.get("finished_at", ""),
        wall_s=record.get("wall_s"),
        message=record.get("message", ""),
        owner=None if owner is None else Owner(**owner),
    )


# -- the CSV --------------------------------------------------------------------------------------------------


def _csv(rows: Iterable[Row]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([cell(getattr(row, name)) for name in COLUMNS])
    return out.getvalue().encode()


def cell(value: Any) -> str:
    """A value as the CSV writes it: joined with ';', empty for None."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ";".join(map(str, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _parsed(text: str, path: Path) -> dict[str, Row]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = tuple(next(reader, ()))
    if header != COLUMNS:
        _raise_header(header, path)
    rows: dict[str, Row] = {}
    for number, cells in enumerate(reader, start=1):
        if not cells:
            continue  # an empty line at the end, as editors leave it
        if len(cells) != len(COLUMNS):
            found = f"found {len(cells)} columns, expected {len(COLUMNS)}"
            raise RecordError(f"{path}: row {number} ({cells[0]}): {found}.\n{_remedy(path)}")
        row = _row(cells, number, path)
        if row.suite_id in rows:
            raise nonsense(path, number, "suite_id", row.suite_id, "each suite once")
        rows[row.suite_id] = row
    return rows


def _row(cells: list[str], number: int, path: Path) -> Row:
    raw = dict(zip(COLUMNS, cells, strict=True))
    values: dict[str, Any] = {}
    for name, text in raw.items():
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            raise nonsense(path, number, name, text, str(error)) from None
    return Row(**values)


_PLACE = re.compile(r"\d+(?:@[a-z]+)?|\d+(?:\.\d+)?(?:e[+-]?\d+)?s", re.ASCII)  # records/strikes.py: place
_COUNTS = frozenset({"checkpoint_every", "max_inflight", "nproc", "steps", "attempts", "runs_done", "runs_total"})


def _value(name: str, text: str) -> Any:
    """The value of a cell.

    Raises:
        ValueError: it is not one; the text says what was expected.
    """
    if name in _COUNTS:
        if not (text.isascii() and text.isdigit()):
            raise ValueError("a whole number")
        return int(text)
    if name == "failure_steps":
        return tuple(_planned_place(part) for part in text.split(";"))
    if name == "seeds":
        parts = text.split(";")
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError("whole numbers joined with ';'")
        return tuple(map(int, parts))
    if name == "variants":
        return tuple(text.split(";"))
    if name == "wall_s":
        try:
            return float(text) if text else None
        except ValueError:
            raise ValueError("seconds or an empty cell") from None
    if name == "status" and text not in STATUSES:
        raise ValueError(f"one of {', '.join(STATUSES)}.{did_you_mean(text, STATUSES)}")
    if name == "suite_id" and not text:
        raise ValueError("a suite id")
    return text


def _planned_place(text: str) -> int | str:
    if not _PLACE.fullmatch(text):
        raise ValueError("steps, phases (900@persist) or seconds (412.5s) joined with ';'")
    return int(text) if text.isdigit() else text


def _raise_header(header: tuple[str, ...], path: Path) -> None:
    for number, expected in enumerate(COLUMNS):
        found = header[number] if number < len(header) else "nothing"
        if found != expected:
            where = f"row 0 (the header), column {number + 1}"
            raise RecordError(f"{path}: {where}: found {found!r}, expected {expected!r}.\n{_remedy(path)}")
    raise RecordError(f"{path}: row 0 (the header): found {len(header)} columns, expected {len(COLUMNS)}")


def nonsense(path: Path, number: int, column: str, found: str, expected: str) -> RecordError:
    """The error for a cell that says what cannot be. Rows are counted from 1, below the header."""
    return RecordError(
        f"{path}: row {number}, column {column}: found {found!r}, expected {expected.rstrip('.')}.\n{_remedy(path)}"
    )


def _remedy(path: Path) -> str:
    prefix = path.parent.name
    return f"Correct that cell, or remove the file and type `ecrl matrix resume --prefix {prefix}`: results are kept."


def no_such_prefix(paths: CampaignPaths) -> str:
    """What to say about a prefix that is not there."""
    prefixes = all_prefixes(paths.results)
    there = (
        f"There are: {', '.join(prefixes[:20])}" if prefixes else "There is none yet: ecrl matrix run --prefix P FILE"
    )
    return f"--prefix: no campaign {paths.prefix!r} in {paths.results}/.{did_you_mean(paths.prefix, prefixes)} {there}"


def _manifest_text(paths: CampaignPaths) -> str:
    try:
        return paths.manifest.read_bytes().decode()
    except FileNotFoundError:
        raise RecordError(
            f"{paths.manifest}: not found. Type `ecrl matrix resume --prefix {paths.prefix}`: it is made again"
            " from the frozen matrix and the results."
        ) from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{paths.manifest}: not UTF-8 text ({error}).\n{_remedy(paths.manifest)}") from None


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
