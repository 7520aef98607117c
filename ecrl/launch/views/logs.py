"""A suite's logs: the files of its runs, their last lines, and new lines while a run is active."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl.errors import EcrlError, unknown_name
from ecrl.launch.runs.file_tail import FileTail
from ecrl.launch.system.process_identity import Liveness, check_owner
from ecrl.launch.views.planned_failures import Mark, mark_launcher_lines, mark_rank_lines, read_marks
from ecrl.launch.views.suite_view import RunView, SuiteView, inspect_suite
from ecrl.records.manifest.store import INTERRUPTED, PENDING, RUNNING
from ecrl.records.paths import RunPaths

SCHEMA = 1
_RANK_LOG = re.compile(r"attempt_(?P<attempt>\d+)/(?P<rank>\d+)/(?P<stream>stdout|stderr)\.log")
_TAIL_BYTES = 1 << 18
_ALL_LINES = _TAIL_BYTES  # no line is shorter than its newline


@dataclass(frozen=True)
class LogFile:
    """One log file. stream: launcher, stdout or stderr; ecrl: the marks of planned failures, which are in no log.
    attempt and rank are None for the launcher's log and for marks."""

    path: Path
    stream: str
    attempt: int | None = None
    rank: int | None = None

    @property
    def label(self) -> str:
        """A short prefix for each line of the log."""
        return self.stream if self.rank is None else f"rank{self.rank}.{self.attempt} {self.stream}"

    def to_json(self, num_lines: int) -> dict[str, Any]:
        """One entry of `logs`, with the last `num_lines` lines."""
        told = {"path": str(self.path), "stream": self.stream, "attempt": self.attempt, "rank": self.rank}
        return told | {"bytes": self.path.stat().st_size, "tail": read_last_lines(self.path, num_lines)}


def find_log_files(run: RunPaths, rank: int | None = None) -> list[LogFile]:
    """The logs of a run: the launcher's, then those of the ranks (only of `rank`, if given) by attempt and stream."""
    found = [LogFile(run.torchrun_log, "launcher")] if rank is None and run.torchrun_log.is_file() else []
    of_ranks = []
    for path in run.logs.glob("*/attempt_*/*/std*.log"):
        match = _RANK_LOG.search(path.as_posix())
        if match is not None and rank in (None, int(match["rank"])):
            of_ranks.append(LogFile(path, match["stream"], int(match["attempt"]), int(match["rank"])))
    return found + sorted(of_ranks, key=lambda log: (log.attempt, log.rank, log.stream))


def read_last_lines(path: Path, number: int) -> list[str]:
    """The last lines of a file, read from its end."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(size - _TAIL_BYTES, 0))
        lines = file.read().decode(errors="replace").splitlines()
    return lines[-number:] if number else []


def read_marked_lines(log: LogFile, number: int, marks: list[Mark]) -> list[str]:
    """As `read_last_lines`, with the marks of planned failures where what they caused begins."""
    lines = read_last_lines(log.path, _ALL_LINES)
    kept = lines[-number:] if number else []
    placed = mark_launcher_lines(lines, marks) if log.attempt is None else mark_rank_lines(lines, log.attempt, marks)
    cut = len(lines) - len(kept)
    for index, text in reversed(placed if kept else []):
        kept.insert(max(index - cut, 0), text)
    return kept


def choose_run(suite: SuiteView, variant: str | None, seed: int | None) -> RunView:
    """The run whose logs to show: the named one, else the active one, else a failed one, else the last started one.

    Raises:
        EcrlError: the suite has no such run, or none of its runs has started.
    """
    variants, seeds = suite.row.variants, suite.row.seeds
    if variant is not None and variant not in variants:
        raise EcrlError("ECRL-102", f"--variant: {unknown_name('variant', variant, variants)}")
    if seed is not None and seed not in seeds:
        raise EcrlError("ECRL-102", f"--seed: {unknown_name('seed', str(seed), map(str, seeds))}")
    named = [run for run in suite.runs if variant in (None, run.variant) and seed in (None, run.seed)]
    for state in ("running", "failed", "left"):
        if found := [run for run in named if run.state == state]:
            return found[-1]
    begun = [run for run in named if run.state != "pending"]
    if not begun:
        raise EcrlError(
            "ECRL-324",
            f"SUITE: {suite.row.suite_id}: no run has started, so there are no logs.\n"
            f"To wait for them, type: ecrl logs -f {suite.paths.options} {suite.row.suite_id}",
        )
    return max(begun, key=_start_ns)


def _start_ns(run: RunView) -> int:
    """When a run was started; if its run.json is gone, when it ended. Unix nanoseconds."""
    of = run.paths.spec if run.paths.spec.exists() else run.paths.result
    return of.stat().st_mtime_ns


@dataclass(frozen=True)
class Line:
    """A new line in a log of a run."""

    run: RunView
    log: LogFile
    text: str


class LogFollower:
    """Follows the logs of a suite's active run, one run after the other."""

    def __init__(self, results: Path, prefix: str, suite_id: str, rank: int | None, num_lines: int) -> None:
        self._where = (results, prefix, suite_id)
        self._rank = rank
        self._num_lines = num_lines  # existing lines to show when a log is first seen
        self._tails: dict[Path, FileTail] = {}
        self._marked: dict[Path, int] = {}  # run folder -> how many of its marks were shown
        self._seen_running = False
        self.over = ""  # why no more lines will come; '' while more may come
        self.waits = ""  # what has to happen before lines can come; '' while a run is active

    def poll(self) -> Iterator[Line]:
        """Yields the lines that are new since the last poll. Sets `over` if no more will come."""
        suite = inspect_suite(*self._where)
        self._note_status(suite)
        going_on = [run for run in suite.runs if run.state == "running"]
        ended = [run for run in suite.runs if any(path.is_relative_to(run.paths.folder) for path in self._tails)]
        for run in [*ended, *(run for run in going_on if run not in ended)]:
            # Read in this order, the mark of a failure never comes after what the failure caused.
            lines = [
                Line(run, log, text)
                for log in find_log_files(run.paths, self._rank)
                for text in self._read_new_lines(log.path)
            ]
            yield from self._read_new_marks(run)
            yield from lines

    def _note_status(self, suite: SuiteView) -> None:
        """Decide whether more lines may come. A suite that waits for a `resume` is over only if it was seen at work."""
        row = suite.row
        self.waits = ""
        is_gone = row.status == RUNNING and check_owner(row.owner) is Liveness.DEAD
        if is_gone or row.status == INTERRUPTED:
            what = "its ecrl is gone" if is_gone else row.status
            told = f"{row.suite_id}: {what}. Type: ecrl matrix resume {suite.paths.options}"
            self.over, self.waits = (told, "") if self._seen_running else ("", told)
        elif row.status == RUNNING:
            self._seen_running = True
        elif row.status == PENDING:
            self.waits = f"{row.suite_id}: {row.status}"
        else:
            self.over = f"{row.suite_id}: {row.status}"

    def _read_new_marks(self, run: RunView) -> Iterator[Line]:
        marks, folder = read_marks(run.paths), run.paths.folder
        log = LogFile(folder, "ecrl")
        yield from (Line(run, log, mark.text) for mark in marks[self._marked.get(folder, 0) :])
        self._marked[folder] = len(marks)

    def close(self) -> None:
        """Close every file."""
        for tail in self._tails.values():
            tail.close()

    def _read_new_lines(self, path: Path) -> list[str]:
        first = path not in self._tails
        if first:
            self._tails[path] = FileTail(path)
        lines = [line.decode(errors="replace") for line in self._tails[path].lines()]
        return lines[max(len(lines) - self._num_lines, 0) :] if first else lines
