"""A campaign without a terminal: `--detach` starts it, `ecrl matrix attach` follows it, `ecrl matrix stop` ends it.

The detached ecrl is an ordinary one in a session of its own whose stderr is `<prefix>_ecrl.log`. Who works on a
prefix is said by the prefix's lease, never by a pid file alone. For the command line:

    run ... --detach    sys.exit(say(started(paths, [...arguments without --detach, plus "--yes"])))
    matrix attach       follow(paths, say, stop)   # Ctrl-C leaves the campaign going
    matrix stop         stop_holder(paths, now=..., patience_s=...)
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.launch.campaign.lock import Holder, holder, is_held
from ecrl.launch.runs.file_tail import FileTail
from ecrl.launch.system.free_space import find_existing_folder, get_free_bytes
from ecrl.launch.system.process_identity import Liveness, check_owner
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from ecrl.units import format_bytes

_POLL_S = 0.05
_MIN_FREE_BYTES = 1 << 20  # less free than this, and nothing can be written soon
_FOLLOW_S = 0.2
STATUS_EVERY_S = 10.0
_START_TIMEOUT_S = 2.0  # who takes the lock says at once who it is


class DetachError(EcrlError):
    """The detached ecrl ended before it began to work, with its own exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__("ECRL-313", message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class DetachedProcess:
    """A campaign that goes on by itself. pid: its ecrl's; log: what it would have said to a terminal."""

    pid: int
    log: Path


def start_detached(paths: CampaignPaths, arguments: Sequence[str], stop: StopRequest | None = None) -> DetachedProcess:
    """Start `ecrl ARGUMENTS` (`matrix run --prefix ... --yes`, without --detach) in a session of its own, and wait
    until it holds the prefix or has ended: what keeps it from starting is told here, not in a log.

    Raises:
        DetachError: it ended first, with anything but 0; the message is what it said.
        StoppedError: a signal came while it was starting; it was ended.
    """
    return start_detached_command(paths, [sys.executable, "-m", "ecrl", *arguments], stop)


def start_detached_command(
    paths: CampaignPaths, command: Sequence[str], stop: StopRequest | None = None
) -> DetachedProcess:
    """`start_detached` for any command line that works on the prefix."""
    made = not paths.root.exists()
    paths.root.mkdir(parents=True, exist_ok=True)
    log = paths.log
    with log.open("ab") as out:
        begin = out.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=out,
            start_new_session=True,
        )
    while process.poll() is None:
        told = holder(paths)
        if told is not None and told.owner.pid == process.pid:
            process.returncode = 0  # its end is nobody's to wait for here: no warning about a child left behind
            return DetachedProcess(process.pid, log)
        if stop:
            process.send_signal(signal.SIGTERM)
            process.wait()
            _clear(paths, made)
            stop.raise_if_requested("The campaign was not started.")
        time.sleep(_POLL_S)
    said = log.read_bytes()[begin:].decode(errors="replace").strip()
    if process.returncode == 0:
        return DetachedProcess(process.pid, log)  # there was nothing left to do
    _clear(paths, made)
    last = "\n".join(said.splitlines()[-3:]).removeprefix("ecrl: ")
    raise DetachError(last or _explain_silence(paths, process.returncode), process.returncode)


def _clear(paths: CampaignPaths, made: bool) -> None:
    """Leave nothing behind of one that ended before anything was frozen. made: the folder is new."""
    if made and not paths.matrix.exists():
        paths.log.unlink(missing_ok=True)
        if not any(paths.root.iterdir()):
            paths.root.rmdir()


def _explain_silence(paths: CampaignPaths, exit_code: int) -> str:
    """What to say for one that has left no word: a full disk has no room for its log."""
    folder = find_existing_folder(paths.root)
    if (free := get_free_bytes(folder)) >= _MIN_FREE_BYTES:
        return f"ecrl ended with exit code {exit_code} and said nothing."
    return (
        f"{folder}: {format_bytes(free)} free, no room even for the log of the ecrl that was started"
        f" (exit code {exit_code}).\n"
        "Free some space (or name another folder with --results), then type the same command again"
    )


def follow(
    paths: CampaignPaths,
    say: Callable[[str], None],
    stop: StopRequest,
    *,
    last_lines: int = 20,
    standing: Callable[[], Iterable[str]] = tuple,
) -> Holder | None:
    """Show what the prefix's ecrl says until it ends (None) or this process is asked to stop (who goes on).

    standing: lines that tell where it stands, shown at first and every `STATUS_EVERY_S` seconds: it says nothing itself
    while a run goes on.

    Raises:
        EcrlError: nobody works on the prefix, or whoever does has a terminal of its own to talk to.
    """
    told = _get_holder(paths, "attach")
    if not told.logs:
        raise EcrlError(
            "ECRL-314",
            f"campaign {paths.prefix} is run by pid {told.owner.pid} from a terminal; it keeps no log to attach to.\n"
            f"Watch it with: ecrl matrix status {paths.options} --watch",
        )
    tail, due = FileTail(paths.log), 0.0
    try:
        for line in tail.lines()[-last_lines:]:
            say(line.decode(errors="replace"))
        while True:
            ended = not is_held(paths)  # asked before the last lines are read: none is missed
            for line in tail.lines():
                say(line.decode(errors="replace"))
            if ended:
                return None
            if stop:
                return told
            if time.monotonic() >= due:
                due = time.monotonic() + STATUS_EVERY_S
                for text in standing():
                    say(text)
            time.sleep(_FOLLOW_S)
    finally:
        tail.close()


def stop_holder(
    paths: CampaignPaths,
    *,
    now: bool = False,
    patience_s: float = 60.0,
    waiting: Callable[[], None] = lambda: None,
) -> Holder:
    """Ask the prefix's ecrl to hand over (SIGTERM), as Ctrl-C would, and wait until it has let go of the prefix.

    now: do not be gentle with the workers (a second Ctrl-C). waiting: called while it waits; it may raise.

    Raises:
        EcrlError: nobody works on the prefix, it is on another host, or it has not let go in time.
    """
    told = _get_holder(paths, "stop")
    pid = told.owner.pid
    if check_owner(told.owner) is not Liveness.ALIVE:
        raise EcrlError(
            "ECRL-310",
            f"campaign {paths.prefix} is run by pid {pid} on host {told.owner.host}, which is not seen from here.\n"
            f"On that host type: ecrl matrix stop {paths.options}",
        )
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return told
    try:
        if (
            check_owner(told.owner) is Liveness.ALIVE
        ):  # the descriptor is that process's, not a later owner's of its pid
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if now:  # another signal: of two pending SIGTERMs the kernel keeps one
                signal.pidfd_send_signal(handle, signal.SIGINT)
        deadline = time.monotonic() + patience_s
        while (still := holder(paths)) is not None and still.owner == told.owner:
            if time.monotonic() > deadline:
                raise EcrlError(
                    "ECRL-315",
                    f"pid {pid} still works on {paths.prefix} {patience_s:.0f} s after it was asked to stop.\n"
                    f"End its workers at once: ecrl matrix stop {paths.options} --now",
                )
            waiting()
            time.sleep(_POLL_S)
    except ProcessLookupError:
        return told
    finally:
        os.close(handle)
    return told


def _get_holder(paths: CampaignPaths, command: str) -> Holder:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (told := holder(paths)) is None:
        if not is_held(paths):
            if not (paths.matrix.is_file() or paths.manifest.is_file()):
                raise EcrlError("ECRL-301", manifest.no_such_prefix_message(paths))
            raise EcrlError(
                "ECRL-314",
                f"nobody works on campaign {paths.prefix}: there is nothing to {command}.\n{_next_command(paths)}",
            )
        if time.monotonic() > deadline:
            raise EcrlError(
                "ECRL-309",
                f"campaign {paths.prefix} is held by a process that does not say who it is; its lock is {paths.lock}.\n"
                f"See who has it open: fuser -v {shlex.quote(str(paths.lock))}",
            )
        time.sleep(_POLL_S)
    return told


def _next_command(paths: CampaignPaths) -> str:
    """The command to type where nobody works."""
    if paths.manifest.exists():
        counts = manifest.read(paths).counts
        if not any(counts[status] for status in (manifest.PENDING, manifest.RUNNING, manifest.INTERRUPTED)):
            return f"Nothing of it is left to run. Tables and report: ecrl report {paths.options}"
    if not paths.matrix.is_file():
        return f"{paths.matrix} is gone: put it back, and it can be continued."
    return f"Continue it with: ecrl matrix resume {paths.options}"
