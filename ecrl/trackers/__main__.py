"""`python -m ecrl.trackers results/mine tensorboard`: feeds one tracker until stdin ends.

stdout carries one JSON line for each fact that ecrl passes on: {"where"} once the tracker is open, {"failed"} when it
gives up, {"runs", "points"} at the end. What libraries print goes to stderr. A third argument is for ecrl: signals are
left to it, and after the end of stdin this process has so many seconds.
"""

import contextlib
import json
import os
import select
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from ecrl import plugins
from ecrl.errors import EXIT_SOME_FAILED, EcrlError
from ecrl.records.manifest.store import no_such_prefix_message
from ecrl.records.paths import CampaignPaths, shorten_path
from ecrl.trackers.campaign_feed import CampaignFeed
from ecrl.trackers.fed import Fed

_POLL_S = 5.0
_MAX_SHOWN = 300  # characters of an error; the log has all
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(folder: str, name: str, patience_s: str = "") -> int:
    """Feed the tracker; returns the exit code."""
    facts = os.dup(1)
    os.dup2(2, 1)

    def tell(**fact: Any) -> None:
        try:
            os.write(facts, json.dumps(fact).encode() + b"\n")
        except BrokenPipeError:
            print(f"nobody reads: {fact}", file=sys.stderr)  # ecrl was killed

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for signum in _SIGNALS if patience_s else ():
        signal.signal(signum, signal.SIG_IGN)
    os.nice(19)  # the ranks that are measured come first
    try:
        feed = _open_feed(Path(folder), name, tell)
        while not _has_stdin_ended():
            feed.feed()
        if patience_s:
            signal.alarm(int(patience_s))  # ends the process, whatever it waits for
        feed.close()
    except EcrlError as error:
        tell(failed=error.format_message(), code=error.exit_code)
        return error.exit_code
    except Exception as error:  # of any library: the campaign must not end with its tracker
        first, *_ = str(error).splitlines() or [""]
        tell(failed=f"{type(error).__name__}: {first[:_MAX_SHOWN]}", code=EXIT_SOME_FAILED)
        with contextlib.suppress(OSError):  # the log is on the disk that is full
            traceback.print_exc()
        return EXIT_SOME_FAILED
    tell(runs=len(feed.runs), points=feed.points)
    return 0


def _open_feed(folder: Path, name: str, tell: Any) -> CampaignFeed:
    paths = CampaignPaths(shorten_path(folder.absolute().parent), folder.name)
    if not paths.matrix.is_file():
        raise EcrlError("ECRL-301", no_such_prefix_message(paths))
    make = plugins.load("tracker", name).make
    own = paths.trackers / name
    own.mkdir(parents=True, exist_ok=True)
    fed = Fed(own / "fed.jsonl")
    tracker = make(own, paths.prefix)
    tell(where=tracker.where)
    return CampaignFeed(paths, tracker, fed)


def _has_stdin_ended() -> bool:
    """Wait for `_POLL_S`, or until stdin ends: ecrl, at the other end of it, is done or was killed."""
    return bool(select.select([0], [], [], _POLL_S)[0]) and not os.read(0, 4096)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("expected: python -m ecrl.trackers results/mine tensorboard")
    sys.exit(main(*sys.argv[1:]))
