"""Trackers beside a campaign and after it: a process each, `python -m ecrl.trackers`, which nothing here waits for.

The process ends with its stdin, whose other end is this process's: so it ends, too, if ecrl is killed.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from ecrl import plugins
from ecrl.errors import EXIT_SOME_FAILED, EcrlError
from ecrl.launch.system.child import build_module_command, find_working_folder
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.process_group import end_leftovers, end_run, watch_end
from ecrl.launch.system.process_identity import RUN_MARKER, build_campaign_markers
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import Wait
from ecrl.records.paths import CampaignPaths

_PATIENCE_S = 15  # for the last records, once the campaign has ended
_POLL_S = 0.05
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the ranks' cores are theirs

Fact = Mapping[str, Any]


class TrackerError(EcrlError):
    """A tracker could not be fed after the fact."""

    exit_code = EXIT_SOME_FAILED


class TrackerProcess:
    """One tracker's process. tell: called, in a thread, with each fact that it reports; see `ecrl.trackers.__main__`.

    beside: it runs beside a campaign until `finish`; else it feeds what is there.
    """

    def __init__(self, paths: CampaignPaths, name: str, tell: Callable[[Fact], None], *, beside: bool) -> None:
        self._folder, self._tell = (paths.trackers / name).resolve(), tell
        self._folder.mkdir(parents=True, exist_ok=True)
        self.log = paths.trackers / name / "tracker.log"
        markers = build_campaign_markers(paths.root.resolve()) | {RUN_MARKER: str(self._folder)}
        patience = [str(_PATIENCE_S)] if beside else []
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*build_module_command("ecrl.trackers", str(paths.root.resolve()), name), *patience],
                stdin=subprocess.PIPE if beside else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=build_child_environment(os.environ, _ONE_THREAD | markers),
                cwd=find_working_folder(),
                start_new_session=True,  # ecrl alone handles signals from the terminal
            )
        self._thread = threading.Thread(target=self._read, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Pass on what the process reports, and its end."""
        assert self._process.stdout is not None
        failed = False
        with self._process.stdout as facts:
            for line in facts:
                fact = json.loads(line)
                failed = failed or "failed" in fact
                self._tell(fact)
        if (code := self._process.wait()) and not failed:
            self._tell({"failed": _describe_end(code), "code": EXIT_SOME_FAILED})

    def finish(self, stop: StopRequest, say: Callable[[str], None]) -> None:
        """Let the process pass on the last records, and see that nothing is left of it. say: shows what takes long."""
        wait = Wait(lambda: f"tracker {self._folder.name} to pass on the last records, at most {_PATIENCE_S} s", say)
        if self._process.stdin is not None:
            self._process.stdin.close()
        deadline = time.monotonic() + _PATIENCE_S + 1
        while self._thread.is_alive() and time.monotonic() < deadline and not stop.now:
            self._thread.join(_POLL_S)
            wait.look()
        stop_now = watch_end(f"the processes of tracker {self._folder.name} to end", say, lambda: stop.now)
        if self._thread.is_alive():
            end_run(self._process.pid, self._folder, stop_now=lambda: stop_now() or True)
        end_leftovers(self._folder, stop_now)
        self._thread.join()

    def wait(self, stop: StopRequest, say: Callable[[str], None]) -> None:
        """Wait for the end of the process; end it if ecrl is asked to stop. say: shows what takes long."""
        wait = Wait(lambda: f"tracker {self._folder.name} to read and pass on the records", say)
        while self._thread.is_alive() and not stop:
            self._thread.join(_POLL_S)
            wait.look()
        if self._thread.is_alive():
            end_run(self._process.pid, self._folder, stop_now=lambda: True)
        self._thread.join()


def _describe_end(code: int) -> str:
    """What became of a process that did not say why it ended."""
    if code == -signal.SIGALRM:
        return f"was not done after {_PATIENCE_S} s"
    return f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"


def require_trackers(names: Collection[str]) -> None:
    """Raise if the extra of a tracker is not installed."""
    plugins.require("tracker", names, "tracker")


@contextmanager
def feed_trackers(
    paths: CampaignPaths, names: Collection[str], note: Callable[[str], None], stop: StopRequest
) -> Iterator[None]:
    """Feed the trackers while the block runs, and what is left when it ends. What fails is noted, and stops nothing."""
    with ExitStack() as running:
        for name in names:
            try:
                process = TrackerProcess(paths, name, _Notes(paths, name, note).tell, beside=True)
            except OSError as error:
                note(f"warning: tracker {name}: {error.strerror}: {error.filename or paths.trackers}")
                continue
            running.callback(process.finish, stop, note)
        yield


class _Notes:
    """Turns what a tracker beside a campaign reports into notes."""

    def __init__(self, paths: CampaignPaths, name: str, note: Callable[[str], None]) -> None:
        self._paths, self._name, self._note = paths, name, note

    def tell(self, fact: Fact) -> None:
        if "where" in fact:
            self._note(f"tracker {self._name}: {fact['where']}")
        elif "failed" in fact:
            log = self._paths.trackers / self._name / "tracker.log"
            self._note(
                f"warning: tracker {self._name}: {fact['failed']}\n  the campaign goes on without it; log: {log}\n"
                f"  to feed it afterwards: ecrl track {self._paths.options} --to {self._name}"
            )


def track(paths: CampaignPaths, name: str, stop: StopRequest, say: Callable[[str], None]) -> Fact:
    """Feed a tracker with what a campaign has recorded so far; returns `where`, `runs` and `points`.

    say: shows what takes long.

    Raises:
        TrackerError: the tracker failed.
        StoppedError: a signal came.
    """
    found: dict[str, Any] = {}
    process = TrackerProcess(paths, name, found.update, beside=False)
    process.wait(stop, say)
    stop.raise_if_requested("What was fed stays; the same command goes on.")
    if "failed" in found:
        error = TrackerError(
            "ECRL-580",
            f"tracker {name}: {found['failed']}\n"
            f"Its log: {process.log}. Put that right, then type the same command again.",
        )
        error.exit_code = found["code"]
        raise error
    return found
