"""What a tracker was fed so far: one appended line for each commit, so that a SIGKILL loses none."""

import dataclasses
import errno
import fcntl
import os
import secrets
from pathlib import Path

from ecrl.errors import EXIT_HELD, EcrlError
from ecrl.records.reader import read_events
from ecrl.records.recorder import Recorder
from ecrl.trackers.run_feed import Progress


class TrackerHeldError(EcrlError):
    """Another process feeds this tracker."""

    exit_code = EXIT_HELD


class Fed:
    """The progress of every run, in `fed.jsonl` of the tracker's folder.

    campaign_id: tells the campaign apart from others with its prefix, on a server that both use.

    Raises:
        TrackerHeldError: another process holds the file.
    """

    def __init__(self, path: Path) -> None:
        self._lock = path.open("a+b")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                self._lock.close()
                raise TrackerHeldError(
                    "ECRL-581",
                    f"{path.parent}: another process feeds this tracker; expected none.\n"
                    "It ends with its campaign: ecrl matrix status",
                ) from None
            # A file system without locks: the prefix's lease alone keeps two campaigns apart.
        if self._lock.seek(0, os.SEEK_END) and os.pread(self._lock.fileno(), 1, self._lock.tell() - 1) != b"\n":
            self._lock.write(b"\n")  # a full disk has torn the last line
            self._lock.flush()
        torn: list[str] = []  # the points of a torn line are fed again, from the line before it
        told = read_events(path, torn)
        fed = [event for event in told if event["e"] == "fed"]
        self._runs = {(event["address"], event["run"]): Progress(**event["progress"]) for event in fed}
        self._recorder = Recorder(path)
        known = [str(event["campaign_id"]) for event in told if event["e"] == "first"]
        self.campaign_id = known[0] if known else secrets.token_hex(6)
        if not known:
            self._recorder.event("first", campaign_id=self.campaign_id)

    def get_progress(self, address: str, run: str) -> Progress:
        """The progress of a run, by its name. address: see `Tracker`."""
        return self._runs.get((address, run)) or Progress()

    def keep(self, address: str, run: str, progress: Progress) -> None:
        """Keep the progress of a run."""
        self._runs[address, run] = progress
        self._recorder.event("fed", address=address, run=run, progress=dataclasses.asdict(progress))

    def close(self) -> None:
        """Let another process feed the tracker."""
        self._recorder.close()
        self._lock.close()
