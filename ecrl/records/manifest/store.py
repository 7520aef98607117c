"""The manifest: a CSV snapshot with one row per suite, and a journal of checksummed state changes.

A change is one appended, fsynced journal line, whatever the number of suites. Readers merge both files without a lock.
The writer (one per prefix, under the prefix's lock) writes the journal's changes into the CSV with `compact`: when the
caller asks for it and when the journal has grown long. Journal records hold absolute values, so a record that is
replayed twice changes nothing. The first record of a journal describes the CSV that it belongs to: `snapshot` (CRC and
length, so that a CSV written and checked by ecrl is not checked again), `experiment` and `token` (the highest issued).
`<prefix>_manifest.history` keeps the journal lines of attempts: which attempt of which run started when, on which
devices.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecrl.errors import EcrlError, RecordError, did_you_mean
from ecrl.records.manifest import journal
from ecrl.records.manifest.journal import Journal, frame
from ecrl.records.manifest.lazy_table import Rows
from ecrl.records.manifest.table import (
    COLUMNS,
    COMPLETED,
    DONE,
    FAILED,
    FIXED,
    INTERRUPTED,
    PENDING,
    RUNNING,
    SKIPPED,
    STATE,
    STATUSES,
    Owner,
    Row,
    describe_remedy,
    format_cell,
    make_cell_error,
)
from ecrl.records.paths import CampaignPaths, all_prefixes
from ecrl.storage.atomic import write_atomic

__all__ = [
    "COLUMNS", "COMPLETED", "DONE", "FAILED", "FIXED", "INTERRUPTED", "PENDING", "RUNNING", "SKIPPED", "STATE",
    "STATUSES", "Manifest", "Owner", "Row", "View", "format_cell", "history", "make_cell_error",
    "no_such_prefix_message", "read", "read_all", "read_histories", "utc_now",
]  # fmt: skip

MAX_RECORD_BYTES = 500
_LONG_JOURNAL_BYTES = 1 << 20  # `record` then calls `compact`, unless the CSV is so long that this costs more


@dataclass
class View:
    """The manifest as a reader sees it. rows: in manifest order. warnings: the damaged parts that were dropped.

    token: the highest token that was issued. experiment: the hash of the frozen matrix that ecrl checked exactly these
    rows against, or ''. snapshot: CRC and length of the CSV.
    """

    rows: Rows
    warnings: list[str]
    token: int = 0
    experiment: str = ""
    snapshot: tuple[int, int] = (0, 0)

    @property
    def counts(self) -> dict[str, int]:
        """The number of suites with each status. Every status is a key."""
        return self.rows.counts()


def utc_now() -> str:
    """The current time in the manifest's form: 2026-11-21T23:28:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(paths: CampaignPaths) -> View:
    """Merge CSV and journal, without a lock. Rows are parsed when they are accessed.

    Raises:
        RecordError: there is no manifest, or the CSV is not a valid one; the message names file, row and column.
        EcrlError: the campaign does not exist: there is neither a manifest nor a frozen matrix.
    """
    for _ in range(20):
        before, warnings = _identity(paths.manifest), list[str]()
        data, records = _manifest_bytes(paths), journal.read(paths.journal, warnings)
        # The writer first replaces the CSV and then empties the journal. If the CSV is unchanged, the journal that
        # was read belongs to it. Otherwise the writer replaced the CSV in between: read both again.
        if _identity(paths.manifest) == before:
            break
    described: dict[str, Any] = next((r for r in records if "snapshot" in r), {})
    snapshot = _checksum(data)
    trusted = described.get("snapshot") == list(snapshot)
    try:
        rows = Rows.from_text(_decode(data), paths.manifest, warnings, trusted=trusted)
    except UnicodeDecodeError as error:
        raise RecordError(
            "ECRL-401", f"{paths.manifest}: not UTF-8 text ({error}).\n{describe_remedy(paths.manifest)}"
        ) from None
    newest: dict[str, dict[str, Any]] = {}
    for record in records:
        if "snapshot" not in record:
            newest[record.get("suite_id", "")] = record  # each record holds the whole state: the last one counts
    for suite_id, record in newest.items():
        if suite_id not in rows:
            warnings.append(f"{paths.journal.name}: a change to the unknown suite {suite_id or None} was dropped")
        else:
            rows.put(_apply_state(rows[suite_id], record))
    token = max((int(r.get("token", 0)) for r in records), default=0)
    return View(rows, warnings, token, described.get("experiment", "") if trusted else "", snapshot)


def read_all(results: Path, warn: Callable[[str], None]) -> Iterator[tuple[CampaignPaths, View]]:
    """Every campaign in the results folder. `warn` gets a line for each campaign with an unreadable manifest."""
    for paths in (CampaignPaths(results, prefix) for prefix in all_prefixes(results)):
        try:
            view = read(paths)
        except (EcrlError, OSError) as error:
            warn(f"warning: campaign {paths.prefix} is left out: {error}")
            continue
        yield paths, view


def history(paths: CampaignPaths, suite_id: str) -> list[dict[str, Any]]:
    """Every recorded state of a suite, oldest first: `at`, `status`, and `token`, `run`, `where` of its attempts."""
    return read_histories(paths).get(suite_id, [])


def read_histories(paths: CampaignPaths) -> dict[str, list[dict[str, Any]]]:
    """The history of every suite that has one, by suite id."""
    seen: dict[str, dict[str, dict[str, Any]]] = {}
    for path in (history_path(paths), paths.journal):
        for record in journal.read(path, []):
            if (suite_id := record.get("suite_id")) is not None:
                what = repr({key: value for key, value in record.items() if key != "at"})
                # a running suite, or a crash in `compact`, leaves a line in both files
                seen.setdefault(suite_id, {}).setdefault(what, record)
    return {suite_id: list(records.values()) for suite_id, records in seen.items()}


def history_path(paths: CampaignPaths) -> Path:
    """The file of the journal lines that were written into the CSV."""
    return paths.table("manifest.history")


class Manifest:
    """The writer of the manifest. Open it only under the prefix's lock."""

    def __init__(self, paths: CampaignPaths, rows: Rows, warnings: list[str], token: int = 0) -> None:
        self.paths = paths
        self.rows = rows
        self.warnings = warnings
        self.token = token
        self.experiment = ""  # hash of the matrix that the rows were checked against, stored for the next reader
        self._journal = Journal(paths.journal)
        self._snapshot = (0, 0)  # CRC and length of the CSV on disk

    @classmethod
    def create(cls, paths: CampaignPaths, rows: Iterable[Row], experiment: str = "") -> "Manifest":
        """Create a new manifest on disk. Its journal has no state changes."""
        manifest = cls(paths, Rows.from_rows(rows, paths.manifest), [])
        manifest.experiment = experiment
        manifest.compact()
        return manifest

    @classmethod
    def open(cls, paths: CampaignPaths) -> "Manifest":
        """Read the manifest on disk. The journal stays unchanged until the next `compact`.

        Raises:
            RecordError: see `read`.
        """
        # Only the journal names the owners of running suites; takeovers need them.
        view = read(paths)
        manifest = cls(paths, view.rows, view.warnings, view.token)
        manifest.experiment = view.experiment
        manifest._snapshot = view.snapshot
        return manifest

    def runs_total(self) -> int:
        """The number of runs of all suites."""
        # Every suite has the same number of runs.
        return sum(row.runs_total for row in itertools.islice(self.rows.values(), 1)) * len(self.rows)

    def next_token(self) -> int:
        """A token that no earlier attempt of this campaign has. It is taken once it is recorded."""
        self.token += 1
        return self.token

    def record(self, suite_id: str, **changes: Any) -> Row:
        """Change a suite's state: append a durable journal line, then change the row in memory. Returns the new row."""
        row = replace(self.rows[suite_id], **changes)
        size = self._journal.append(_frame_row(row))
        self.rows.put(row)
        if size > max(_LONG_JOURNAL_BYTES, self._snapshot[1] // 4):
            self.compact()
        return row

    def compact(self) -> None:
        """Write the journal's changes into the CSV. Does nothing if the CSV is already up to date.

        The process may be killed at any point.
        """
        # After a kill between two replacements, the journal is replayed over a CSV that already contains its changes.
        self.close()
        if not self.rows.changed and self._journal_bytes() == self._build_compact_journal():
            return
        self._keep_history()
        data = "\n".join([",".join(COLUMNS), *self.rows.lines(), ""]).encode()
        write_atomic(self.paths.manifest, data)
        self._snapshot = _checksum(data)
        self.rows.changed = False
        write_atomic(self.paths.journal, self._build_compact_journal())

    def _build_compact_journal(self) -> bytes:
        """The journal that belongs to an up-to-date CSV: its first record, and the lines of running suites."""
        # The CSV has no column for the owner of a running suite.
        described = {"snapshot": self._snapshot, "experiment": self.experiment, "token": self.token}
        running = [self.rows[suite_id] for suite_id, status in self.rows.statuses().items() if status == RUNNING]
        return frame(described) + b"".join(_frame_row(row) for row in running if row.owner)

    def _journal_bytes(self) -> bytes:
        try:
            return self.paths.journal.read_bytes()
        except FileNotFoundError:
            return b""

    def _keep_history(self) -> None:
        lines = self._journal_bytes().splitlines(keepends=True)
        told = [one for one in lines if (record := journal.unframe(one)) is not None and "token" in record]
        if told := [one for one in told if b'"suite_id"' in one]:
            kept = Journal(history_path(self.paths))
            try:
                kept.append(b"".join(told))
            finally:
                kept.close()

    def close(self) -> None:
        """Close the journal. All its lines are durable already."""
        self._journal.close()


def _decode(data: bytes) -> str:
    """The CSV's text, without a last character that was cut off.

    Raises:
        UnicodeDecodeError: the bytes are not UTF-8.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if len(data) - error.start >= 4:  # no character is longer, so this is not a cut
            raise
        return data[: error.start].decode()


def _checksum(data: bytes) -> tuple[int, int]:
    return zlib.crc32(data), len(data)


def _frame_row(row: Row) -> bytes:
    state = {name: value for name in STATE if (value := getattr(row, name)) not in ("", None, 0)}
    if row.owner is not None:
        state["owner"] = dataclasses.asdict(row.owner)
    record = {"suite_id": row.suite_id, "at": utc_now(), **state}
    line = frame(record)
    while len(line) > MAX_RECORD_BYTES and record.get("message"):  # only the message has no length limit
        excess = max(len(line) - MAX_RECORD_BYTES, 4)
        text = record["message"].removesuffix("…").encode()[: -(excess + 3)].decode(errors="ignore")
        record["message"] = text + "…" if text else ""
        line = frame(record)
    return line


def _apply_state(row: Row, record: Mapping[str, Any]) -> Row:
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
        token=record.get("token", 0),
        run=record.get("run", ""),
        where=record.get("where", ""),
        owner=None if owner is None else Owner(**owner),
    )


def no_such_prefix_message(paths: CampaignPaths) -> str:
    """The error message for a prefix that does not exist."""
    prefixes = all_prefixes(paths.results)
    near = did_you_mean(paths.prefix, prefixes)
    if paths.root.is_dir():
        near = f" {paths.root} has no frozen matrix: no campaign was started there, or an ecrl is starting one."
    begin = f"ecrl matrix run {paths.options} MATRIX.toml"
    there = f"There are: {', '.join(prefixes[:20])}" if prefixes else f"No campaign exists yet. Type: {begin}"
    return f"--prefix: no campaign {paths.prefix!r} in {paths.results}/.{near} {there}"


def _manifest_bytes(paths: CampaignPaths) -> bytes:
    try:
        return paths.manifest.read_bytes()
    except FileNotFoundError:
        if not paths.matrix.is_file():
            raise EcrlError("ECRL-301", no_such_prefix_message(paths)) from None
        raise RecordError(
            "ECRL-402",
            f"{paths.manifest}: not found. If no ecrl is writing it, type `ecrl matrix resume {paths.options}`:"
            " it is rebuilt from the frozen matrix and the results.",
        ) from None


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
