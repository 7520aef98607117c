"""The state of a running campaign, read by another process: counts, running suites, time left, failures."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ecrl.launch.campaign.lock import holder
from ecrl.launch.campaign.store import read_kind
from ecrl.launch.runs.experiment import ExperimentKind, load_kind
from ecrl.launch.runs.run_times import RunTimes, TimeKey
from ecrl.launch.runs.silence import describe_silence
from ecrl.launch.system.process_identity import Liveness, check_owner
from ecrl.launch.views.finished import FinishedRun, FinishedRuns
from ecrl.launch.views.follower import LiveFollower, LiveRun, find_live_run
from ecrl.records.clock import boot_id, now_ns
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import DONE, FAILED, INTERRUPTED, PENDING, RUNNING, Row, View
from ecrl.records.paths import CampaignPaths, RunPaths

SCHEMA = 1
_FAILURES = 5
_QUEUE = 50  # suites: more lines than a screen has
_READ_SHARE = 0.1  # at most this share of the time is spent on reading the manifest again


@dataclass(frozen=True)
class RunningSuite:
    """A suite that is marked running.

    run: None between two runs. elapsed_s: seconds since its run started. silent_s: seconds since its newest record.
    Both are None if another machine's clock wrote the stamps. silence: what an unusually silent run waits for.
    """

    row: Row
    liveness: Liveness
    run: LiveRun | None
    elapsed_s: float | None
    silent_s: float | None
    silence: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `running`."""
        owner = self.row.owner
        return {
            "suite_id": self.row.suite_id,
            "runs_done": self.row.runs_done,
            "runs_total": self.row.runs_total,
            "ecrl": None if owner is None else {"host": owner.host, "pid": owner.pid, "state": self.liveness.value},
            "run": None if self.run is None else self.run.to_json(),
            "elapsed_s": self.elapsed_s,
            "silent_s": self.silent_s,
            "silence": self.silence or None,
        }


@dataclass(frozen=True)
class Failure:
    """A failed suite. log: the path of its log, or '' if the message names none."""

    suite_id: str
    reason: str
    log: str
    finished_at: str


@dataclass(frozen=True)
class Snapshot:
    """The state of a campaign at one time.

    options: the command-line options that name it. eta_s: estimated seconds until nothing is left; None before the
    first measured run. waits_for: see `Holder`. queue: the next suites. finished: the last finished runs, the newest
    first.
    """

    prefix: str
    options: str
    at: str
    counts: dict[str, int]
    runs_done: int
    runs_total: int
    runs_measured: int
    eta_s: float | None
    running: list[RunningSuite]
    failures: list[Failure]
    warnings: list[str]
    waits_for: str = ""
    queue: list[str] = field(default_factory=list)
    finished: list[FinishedRun] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Whether no suite is running or left to run."""
        return not any(self.counts[status] for status in (PENDING, RUNNING, INTERRUPTED))

    def to_json(self) -> dict[str, Any]:
        """The object that `status --watch --json` prints as one line."""
        return {
            "schema": SCHEMA, "prefix": self.prefix, "at": self.at, "counts": self.counts,
            "runs_done": self.runs_done, "runs_total": self.runs_total, "runs_measured": self.runs_measured,
            "eta_s": self.eta_s, "running": [running.to_json() for running in self.running],
            "failures": [vars(failure) for failure in self.failures], "warnings": self.warnings,
            "waits_for": self.waits_for or None,
            "queue": self.queue, "finished": [vars(run) for run in self.finished],
        }  # fmt: skip


@dataclass(frozen=True)
class _ManifestState:
    """A summary of the manifest, computed again only when the manifest changes.

    times: measured run times. left_s: estimated seconds of the runs that are left, one after the other.
    """

    view: View
    counts: dict[str, int]
    running: list[Row]
    failures: list[Failure]
    runs_done: int
    runs_total: int
    times: RunTimes
    left_s: float | None
    queue: list[str]
    newest: list[Row]  # suites in which runs may have finished, the newest first

    @classmethod
    def from_view(cls, view: View, paths: CampaignPaths, kind: ExperimentKind) -> "_ManifestState":
        rows = list(view.rows.values())
        times = _measure_times(rows, kind)
        return cls(
            view=view,
            counts=view.counts,
            running=[row for row in rows if row.status == RUNNING],
            failures=_failures(rows, paths),
            runs_done=sum(row.runs_total if row.status in DONE else row.runs_done for row in rows),
            runs_total=sum(row.runs_total for row in rows),
            times=times,
            left_s=times.estimate_left_s(_count_left(rows, kind)),
            queue=[row.suite_id for row in rows if row.status in (PENDING, INTERRUPTED)][:_QUEUE],
            newest=_order_by_end(rows),
        )


class CampaignWatch:
    """Takes snapshots of a campaign and reads only what has changed since the last one."""

    def __init__(self, paths: CampaignPaths) -> None:
        self._paths = paths
        self._read: _ManifestState | None = None
        self._seen: object = None
        self._read_again = 0.0
        self._followers: dict[str, LiveFollower] = {}
        self._finished = FinishedRuns(paths)

    def take_snapshot(self) -> Snapshot:
        """The campaign's state now.

        Raises:
            EcrlError: there is no such campaign, or its manifest is not valid.
        """
        read = self._current()
        running = [self._describe_running(row) for row in read.running]
        for suite_id in self._followers.keys() - {each.row.suite_id for each in running}:
            self._followers.pop(suite_id).close()
        return Snapshot(
            prefix=self._paths.prefix,
            options=self._paths.options,
            at=manifest.utc_now(),
            counts=read.counts,
            runs_done=read.runs_done,
            runs_total=read.runs_total,
            runs_measured=read.times.measured,
            eta_s=self._compute_eta_s(read, running),
            running=running,
            failures=read.failures,
            warnings=read.view.warnings,
            waits_for="" if (held := holder(self._paths)) is None else held.waits_for,
            queue=read.queue,
            finished=self._finished.list_newest(read.newest),
        )

    def close(self) -> None:
        """Close every file."""
        for follower in self._followers.values():
            follower.close()

    def _current(self) -> _ManifestState:
        stamps = [_stamp(path) for path in (self._paths.manifest, self._paths.journal)]
        if self._read is None or (stamps != self._seen and time.monotonic() >= self._read_again):
            begun = time.monotonic()
            self._read, self._seen = self._read_manifest(), stamps
            self._read_again = time.monotonic() + (time.monotonic() - begun) / _READ_SHARE
        return self._read

    def _read_manifest(self) -> _ManifestState:
        return _ManifestState.from_view(manifest.read(self._paths), self._paths, self._kind)

    @cached_property
    def _kind(self) -> ExperimentKind:
        return load_kind(read_kind(self._paths))

    def _compute_eta_s(self, read: _ManifestState, running: list[RunningSuite]) -> float | None:
        """Estimated seconds until nothing is left, if as many suites as now run at the same time."""
        if read.left_s is None:
            return None
        times = read.times
        begun = sum(min(r.elapsed_s or 0.0, times.estimate_run_s(_key(r.row, self._kind)) or 0.0) for r in running)
        return max(read.left_s - begun, 0.0) / max(len(running), 1)

    def _describe_running(self, row: Row) -> RunningSuite:
        run = self._follow_run(row)
        return describe_running(row, run, None if run is None else self._followers[row.suite_id].paths)

    def _follow_run(self, row: Row) -> LiveRun | None:
        live = find_live_run(row, self._paths)
        follower = self._followers.get(row.suite_id)
        if follower is not None and (live is None or follower.paths != live[2]):
            self._followers.pop(row.suite_id).close()
            follower = None
        if live is None:
            return None
        if follower is None:
            variant, seed, paths = live
            follower = self._followers[row.suite_id] = LiveFollower(row.suite_id, variant, seed, row.steps, paths)
        try:
            return follower.poll()
        except FileNotFoundError:  # it ended and was set aside meanwhile
            self._followers.pop(row.suite_id).close()
            return None


def describe_running(row: Row, run: LiveRun | None, paths: RunPaths | None) -> RunningSuite:
    """A suite that is marked running, with its active run and that run's folder."""
    liveness = check_owner(row.owner)
    if run is None or paths is None:
        return RunningSuite(row, liveness, None, elapsed_s=None, silent_s=None)
    here = row.owner is not None and row.owner.boot_id == boot_id()
    now = now_ns()
    newest = run.begun if run.t is None else run.t  # before the first rank's first record: since the launcher's start
    elapsed_s = max(now - run.begun, 0) / 1e9 if here and run.begun is not None else None
    silent_s = max(now - newest, 0) / 1e9 if here and newest is not None else None
    silence = describe_silence(run.progress, silent_s, paths) if liveness is Liveness.ALIVE else ""
    return RunningSuite(row, liveness, run, elapsed_s, silent_s, silence)


def describe_suite_once(row: Row, paths: CampaignPaths) -> RunningSuite:
    """A suite that is marked running, for a view that is not repeated."""
    live = find_live_run(row, paths)
    if live is None:
        return describe_running(row, None, None)
    follower = LiveFollower(row.suite_id, live[0], live[1], row.steps, live[2])
    try:
        return describe_running(row, follower.poll(), follower.paths)
    except FileNotFoundError:  # it ended and was set aside meanwhile
        return describe_running(row, None, None)
    finally:
        follower.close()


def _key(row: Row, kind: ExperimentKind) -> TimeKey:
    """The key of a suite's runs."""
    return kind.build_time_key(row, "")  # the manifest does not record the time of each variant


def _measure_times(rows: Iterable[Row], kind: ExperimentKind) -> RunTimes:
    times = RunTimes()
    for row in rows:
        if row.wall_s and row.runs_done:
            times.add(_key(row, kind), row.wall_s / row.runs_done, row.runs_done)
    return times


def _count_left(rows: Iterable[Row], kind: ExperimentKind) -> Counter[TimeKey]:
    """Runs of suites that are not done, by key."""
    left: Counter[TimeKey] = Counter()
    for row in rows:
        if row.status in (PENDING, RUNNING, INTERRUPTED):
            left[_key(row, kind)] += row.runs_total - row.runs_done
    return left


def _order_by_end(rows: Iterable[Row]) -> list[Row]:
    """The suites that run or have run, those that run first, then the newest first."""
    begun = [row for row in rows if row.status != PENDING]
    return sorted(begun, key=lambda row: (row.status == RUNNING, row.finished_at), reverse=True)


def _failures(rows: Iterable[Row], paths: CampaignPaths) -> list[Failure]:
    """The last failed suites, newest first."""
    failed = sorted((row for row in rows if row.status == FAILED), key=lambda row: row.finished_at, reverse=True)
    found = []
    for row in failed[:_FAILURES]:
        reason, separator, log = row.message.rpartition("; log: ")
        path = str(paths.root / log) if separator else ""
        found.append(Failure(row.suite_id, reason if separator else row.message, path, row.finished_at))
    return found


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
