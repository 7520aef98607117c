"""Follows the records of a campaign and passes what is new to one tracker."""

import os
from dataclasses import dataclass
from pathlib import Path

from ecrl.records.manifest import journal
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.trackers.fed import Fed
from ecrl.trackers.run_feed import Progress, RunFeed, flatten_parameters, read_spec
from ecrl.trackers.tracker import RunLog, TrackedRun, Tracker


@dataclass
class _OpenRun:
    """A run that is being fed. written: the change time of its run.json."""

    feed: RunFeed
    progress: Progress
    log: RunLog
    written: int


class CampaignFeed:
    """One tracker's feed. runs, points: how many had something new, since this object was made."""

    def __init__(self, paths: CampaignPaths, tracker: Tracker, fed: Fed) -> None:
        self._paths, self._tracker, self._fed = paths, tracker, fed
        self._open: dict[str, _OpenRun] = {}
        self._waiting: dict[str, int] = {}  # runs that were begun -> the token that their run.json will have
        self._journal = (0, 0)  # inode, bytes read
        self.runs: set[str] = set()
        self.points = 0

    def feed(self) -> None:
        """Pass on what is new."""
        self._find_begun()
        going_on = [*self._open]
        for name, token in [*self._waiting.items()]:
            if self._begin(name, token):
                del self._waiting[name]
                if name in self._open:  # at once: of a finished campaign, all runs are begun here
                    self._feed_run(name)
        for name in going_on:
            self._feed_run(name)

    def close(self) -> None:
        """Pass on the last records, and leave the runs that have no result as they are."""
        self._journal = (0, 0)
        self.feed()
        for run in self._open.values():
            run.log.close()
        self._fed.close()

    def _find_begun(self) -> None:
        """Note the runs that were begun since the last call: by the manifest's journal, or, if that is new, by the
        folders."""
        inode, read = self._journal
        try:
            with self._paths.journal.open("rb") as file:
                now = os.fstat(file.fileno())
                if is_new := now.st_ino != inode or now.st_size < read:  # a freed inode may come again
                    read = 0
                file.seek(read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            self._list_folders()
            return
        if is_new:
            self._list_folders()
        self._journal = now.st_ino, read + len(whole + newline)
        lines = (whole + newline).splitlines(keepends=True)
        for line in lines:
            record = journal.unframe(line)
            if record is not None and record.get("run"):
                self._note(f"{record['suite_id']}/{record['run']}", int(record.get("token", 0)))

    def _list_folders(self) -> None:
        for spec in self._paths.suites.glob("*/*/seed*/run.json"):
            if ".aside-" not in spec.parent.name:
                self._note(spec.parent.relative_to(self._paths.suites).as_posix(), 0)

    def _note(self, name: str, token: int) -> None:
        if name not in self._open:
            self._waiting[name] = max(token, self._waiting.get(name, 0))

    def _begin(self, name: str, token: int) -> bool:
        """Open a run, unless all of it was fed; False: its run.json is not there yet."""
        paths = RunPaths(self._paths.suites / name)
        written, spec = _get_change_time(paths.spec), read_spec(paths)
        if spec is None or spec.get("token", 0) < token:
            return False
        progress = self._fed.get_progress(self._tracker.address, name)
        if progress.token != spec.get("token", 0):
            progress = progress.restart(spec.get("token", 0))
        if not progress.done:
            run = TrackedRun(
                name=name,
                campaign=self._paths.prefix,
                campaign_id=self._fed.campaign_id,
                parameters=flatten_parameters(spec),
                points=progress.points,
                values=progress.values,
                mark=progress.mark,
            )
            self._open[name] = _OpenRun(RunFeed(paths, spec, progress), progress, self._tracker.open_run(run), written)
        return True

    def _feed_run(self, name: str) -> None:
        run, paths = self._open[name], RunPaths(self._paths.suites / name)
        if _get_change_time(paths.spec) != run.written:  # set aside, and begun again
            run.log.close()
            del self._open[name]
            self._waiting[name] = 0
            return
        before = run.progress.points
        for points in run.feed.read():
            if points:
                run.log.log(points)
        if run.progress.points > before or run.progress.done:
            run.progress.mark = run.log.commit()
            self._fed.keep(self._tracker.address, name, run.progress)
            self.runs.add(name)
            self.points += run.progress.points - before
        if run.progress.done:
            completed = bool(run.progress.values.get("final/completed"))
            run.log.end(completed=completed)
            del self._open[name]


def _get_change_time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
