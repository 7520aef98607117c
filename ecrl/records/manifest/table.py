"""A suite's row in the manifest's CSV: its columns, the allowed content of each cell, and its line."""

import csv
import io
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecrl.errors import RecordError, did_you_mean
from ecrl.records.paths import CampaignPaths

PENDING, RUNNING, COMPLETED = "pending", "running", "completed"
FAILED, INTERRUPTED = "failed", "interrupted"
SKIPPED = "skipped_exists"  # a completed suite after `run` was repeated, as versions before 0.2 wrote it
STATUSES = (PENDING, RUNNING, COMPLETED, SKIPPED, FAILED, INTERRUPTED)
DONE = (COMPLETED, SKIPPED)

COLUMNS = (
    "suite_id", "dataset", "model", "failure_label", "failure_steps", "checkpoint_every", "max_inflight", "nproc",
    "steps", "seeds", "variants", "status", "attempts", "runs_done", "runs_total", "started_at", "finished_at",
    "wall_s", "message", "axes",
)  # fmt: skip
# Version 0.1.0 had no column `axes`.
_COLUMNS_0_1_0 = COLUMNS[:-1]
STATUS_COLUMN = COLUMNS.index("status")
# The fields of a suite's state. A journal record contains those that are not empty.
STATE = (
    "status", "attempts", "runs_done", "started_at", "finished_at", "wall_s", "message", "token", "run", "where",
    "owner",
)  # fmt: skip
_column_values = operator.attrgetter(*COLUMNS)
# Columns that the frozen matrix decides.
FIXED = tuple(name for name in COLUMNS if name not in STATE)


@dataclass(frozen=True)
class Owner:
    """The ecrl process that runs a suite.

    start_ticks: when the kernel started it, in ticks since the boot. pid_ns: the namespace of its pid; 0: unknown.
    folder: the inode of the campaign's folder; 0: unknown.
    """

    # start_ticks distinguishes processes with the same pid and does not depend on the system clock. A copy of the
    # campaign's folder has another inode.
    host: str
    boot_id: str
    pid: int
    start_ticks: int
    pid_ns: int = 0
    folder: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One suite. attempts: how often ecrl has started the suite. wall_s: the sum over its finished runs. axes: the
    values of the matrix's `[axes]`, such as 'train.nproc=2;train.steps=40'.

    The journal alone contains the newest attempt's token and, while the suite is running, run (`variant/seed1`), where
    (the leased devices) and owner.
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
    axes: str = ""
    token: int = 0
    run: str = ""
    where: str = ""
    owner: Owner | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest's columns as JSON values: lists for joined columns, null for values that are not known yet.

        `failure_steps` is a list of texts, as not every failure strikes at the end of a step.
        """
        values = {name: getattr(self, name) for name in COLUMNS} | {"failure_steps": [*map(str, self.failure_steps)]}
        return {k: list(v) if isinstance(v, tuple) else v if v != "" else None for k, v in values.items()}


# records/failure_checks.py: format_failure_step
_FAILURE_STEP_TEXT = r"[0-9]+(?:@[a-z][a-z0-9-]*)?|[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?s"
_FAILURE_STEP = re.compile(_FAILURE_STEP_TEXT)
_COUNTS = frozenset({"checkpoint_every", "max_inflight", "nproc", "steps", "attempts", "runs_done", "runs_total"})
# A line as ecrl writes it. A line that does not match may still be a valid row, written by an editor.
_PLAIN = re.compile(
    rf'[^,"\r\n]+(?:,[^,"\r\n]*){{3}},(?:(?:{_FAILURE_STEP_TEXT})(?:;(?:{_FAILURE_STEP_TEXT}))*)?'
    r"(?:,[0-9]+){4}"
    rf',[0-9]+(?:;[0-9]+)*,[^,"\r\n]*,(?:{"|".join(STATUSES)})(?:,[0-9]+){{3}}(?:,[^,"\r\n]*){{2}},(?:[0-9]+\.[0-9]+)?,'
    r'(?:[^,"\r\n]*|"(?:[^"]|"")*"),[^,"\r\n]*'
)


def is_plain(line: str) -> bool:
    """Whether a line is a whole, valid row as ecrl writes it."""
    return _PLAIN.fullmatch(line) is not None


def format_row(row: Row) -> str:
    """The CSV line of a row, without its newline."""
    cells = [_CELLS[type(value)](value) for value in _column_values(row)]
    text = ",".join(cells)
    if '"' not in text and text.count(",") == len(COLUMNS) - 1 and "\n" not in text and "\r" not in text:
        return text
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(cells)
    return out.getvalue()


def format_cell(value: Any) -> str:
    """A value as the CSV writes it: joined with ';', empty for None."""
    return _CELLS[type(value)](value)


@lru_cache(maxsize=4096)
def _join(values: tuple[int | str, ...]) -> str:
    return ";".join(map(str, values))


_CELLS: dict[type, Callable[[Any], str]] = {
    str: str, int: str, float: "{:.3f}".format, tuple: _join, type(None): lambda _: "",
}  # fmt: skip


def parse_row(text: str, number: int, path: Path) -> Row:
    """The row of a line. number: the line's position below the header, counted from 1.

    Raises:
        RecordError: the line is not a valid row. The message names file, row and column.
    """
    if is_plain(text):
        return parse_plain_row(text)
    cells = _cells(text)
    if len(cells) != len(COLUMNS):
        found = f"found {len(cells)} columns, expected {len(COLUMNS)}"
        raise RecordError("ECRL-401", f"{path}: row {number} ({cells[0]}): {found}.\n{describe_remedy(path)}")
    values: dict[str, Any] = {}
    for name, found in zip(COLUMNS, cells, strict=True):
        try:
            values[name] = _value(name, found)
        except ValueError as error:
            raise make_cell_error(path, number, name, found, str(error)) from None
    return Row(**values)


def parse_plain_row(text: str) -> Row:
    """The row of a line in ecrl's own form. The caller has checked it with `is_plain` or knows that ecrl wrote it."""
    c = text.split(",") if '"' not in text else _cells(text)
    return Row(
        suite_id=c[0],
        dataset=c[1],
        model=c[2],
        failure_label=c[3],
        failure_steps=_parse_places(c[4]),
        checkpoint_every=int(c[5]),
        max_inflight=int(c[6]),
        nproc=int(c[7]),
        steps=int(c[8]),
        seeds=_seeds(c[9]),
        variants=_variants(c[10]),
        status=c[11],
        attempts=int(c[12]),
        runs_done=int(c[13]),
        runs_total=int(c[14]),
        started_at=c[15],
        finished_at=c[16],
        wall_s=float(c[17]) if c[17] else None,
        message=c[18],
        axes=c[19],
    )


def _cells(text: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline="")))


def status_of(text: str) -> str:
    """The status in a line."""
    if '"' in text:
        return _cells(text)[STATUS_COLUMN]
    return text.split(",", STATUS_COLUMN + 1)[STATUS_COLUMN]


def _value(name: str, text: str) -> Any:
    """The value of a cell.

    Raises:
        ValueError: the text is not a valid value. The message says what was expected.
    """
    if name in _COUNTS:
        if not (text.isascii() and text.isdigit()):
            raise ValueError("a whole number")
        return int(text)
    if name == "failure_steps":
        return _parse_places(text)
    if name == "seeds":
        return _seeds(text)
    if name == "variants":
        return _variants(text)
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


@lru_cache(maxsize=4096)
def _parse_places(text: str) -> tuple[int | str, ...]:
    return tuple(_parse_place(part) for part in text.split(";")) if text else ()


@lru_cache(maxsize=4096)
def _seeds(text: str) -> tuple[int, ...]:
    parts = text.split(";")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError("whole numbers joined with ';'")
    return tuple(map(int, parts))


@lru_cache(maxsize=4096)
def _variants(text: str) -> tuple[str, ...]:
    return tuple(text.split(";"))


def _parse_place(text: str) -> int | str:
    if not _FAILURE_STEP.fullmatch(text):
        raise ValueError("steps, phases (900@persist) or seconds (412.5s) joined with ';'")
    return int(text) if text.isdigit() else text


def complete_lines(header: str, lines: list[str], path: Path) -> list[str]:
    """The lines of a manifest with all current columns, whichever version wrote them.

    Raises:
        RecordError: `header` is not a manifest's header.
    """
    if tuple(next(csv.reader([header]), [])) == _COLUMNS_0_1_0:
        return [f"{one}," for one in lines]
    _check_header(header, path)
    return lines


def _check_header(text: str, path: Path) -> None:
    header = next(csv.reader([text]), [])
    if tuple(header) == COLUMNS:
        return
    for number, expected in enumerate(COLUMNS):
        found = header[number] if number < len(header) else "nothing"
        if found != expected:
            where = f"row 0 (the header), column {number + 1}"
            raise RecordError(
                "ECRL-401", f"{path}: {where}: found {found!r}, expected {expected!r}.\n{describe_remedy(path)}"
            )
    raise RecordError(
        "ECRL-401",
        f"{path}: row 0 (the header): found {len(header)} columns, expected {len(COLUMNS)}.\n{describe_remedy(path)}",
    )


def make_cell_error(path: Path, number: int, column: str, found: str, expected: str) -> RecordError:
    """The error for a cell with an invalid value. Rows are counted from 1, below the header."""
    sentence = expected if expected.endswith("?") else f"{expected.rstrip('.')}."
    return RecordError(
        "ECRL-401",
        f"{path}: row {number}, column {column}: found {found!r}, expected {sentence}\n{describe_remedy(path)}",
    )


def describe_remedy(path: Path) -> str:
    """The advice for a manifest that cannot be read."""
    options = CampaignPaths(path.parent.parent, path.parent.name).options
    return f"Correct that cell, or remove the file and type `ecrl matrix resume {options}`: results are kept."


def whole_lines(text: str) -> list[str]:
    """The rows of a CSV text below its header. A quoted cell may contain newlines. Empty lines are skipped."""
    if '"' not in text:
        return [part.rstrip("\r") for part in text.split("\n")[1:] if part.strip()]
    rows, open_row = [], ""
    for part in text.split("\n")[1:]:
        whole = f"{open_row}\n{part}" if open_row else part
        if whole.count('"') % 2:
            open_row = whole
            continue
        open_row = ""
        if whole.strip():
            rows.append(whole.rstrip("\r"))
    return [*rows, open_row] if open_row else rows
