"""A campaign without a terminal: `--detach` starts it, `ecrl matrix attach` follows it, `ecrl matrix stop` ends it.

The detached ecrl is an ordinary ecrl in a session of its own; its stderr goes to `<prefix>_ecrl.log`. The prefix's
lease identifies the ecrl that works on a prefix, never a pid file alone.
"""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ecrl.errors import EcrlError
from ecrl.launch.campaign.lock import Holder, holder, is_held
from ecrl.launch.runs.file_tail import FileTail
from ecrl.launch.system.child import build_module_command, find_working_folder
from ecrl.launch.system.free_space import find_existing_folder, get_free_bytes
from ecrl.launch.system.process_identity import Liveness, check_owner
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import QUIET_S, Wait
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from ecrl.units import format_bytes

_POLL_S = 0.05
_MIN_FREE_BYTES = 1 << 20  # with less free space, hardly anything can be written
_FOLLOW_S = 0.2
STATUS_EVERY_S = QUIET_S
_SOON_S = 3.0  # most campaigns stop sooner
_START_TIMEOUT_S = 2.0  # a new holder of the lock records at once who it is


class DetachError(EcrlError):
    """The detached ecrl ended before it held the prefix. exit_code: that of the detached ecrl."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__("ECRL-313", message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class DetachedProcess:
    """A detached campaign. pid: its ecrl. log: the file that its ecrl writes instead of a terminal."""

    pid: int
    log: Path


def start_detached(
    paths: CampaignPaths,
    arguments: Sequence[str],
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> DetachedProcess:
    """Start `ecrl ARGUMENTS` in a session of its own, and wait until it holds the prefix or has ended.

    arguments: `matrix run --prefix ... --yes`, without --detach. say: shows what takes long.

    Raises:
        DetachError: it ended early with an exit code other than 0; the message is what it wrote.
        StoppedError: a signal came during the start; the new ecrl was ended.
    """
    return start_detached_command(paths, build_module_command("ecrl", *arguments), stop, say)


def start_detached_command(
    paths: CampaignPaths,
    command: Sequence[str],
    stop: StopRequest | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> DetachedProcess:
    """As `start_detached`, for any command line that works on the prefix."""
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
            cwd=find_working_folder(),
            start_new_session=True,
        )
    wait = Wait(lambda: f"pid {process.pid} to begin; {_quote_log(log, begin)}", say, _SOON_S)
    while process.poll() is None:
        wait.look()
        told = holder(paths)
        if told is not None and told.owner.pid == process.pid:
            process.returncode = 0  # nobody waits for it here: avoids the warning about a running child
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


def _quote_log(log: Path, begin: int) -> str:
    """The last line of the detached ecrl so far."""
    lines = [line for line in log.read_bytes()[begin:].decode(errors="replace").splitlines() if line.strip()]
    return f"its last line: {lines[-1]}" if lines else "it has said nothing yet"


def _clear(paths: CampaignPaths, made: bool) -> None:
    """Remove what an ecrl left that ended before it froze a matrix. made: the folder was new."""
    if made and not paths.matrix.exists():
        paths.log.unlink(missing_ok=True)
        if not any(paths.root.iterdir()):
            paths.root.rmdir()


def _explain_silence(paths: CampaignPaths, exit_code: int) -> str:
    """The message for an ecrl that ended without writing anything, for example because the disk is full."""
    folder = find_existing_folder(paths.root)
    if (free := get_free_bytes(folder)) >= _MIN_FREE_BYTES:
        return f"ecrl ended with exit code {exit_code} and without a message."
    return (
        f"{folder}: {format_bytes(free)} free, too little for the log of the detached ecrl (exit code {exit_code}).\n"
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
    """Show the output of the prefix's ecrl until it ends or this process is asked to stop.

    Returns None if that ecrl has ended, else its holder.

    last_lines: how many earlier lines of the log to show. standing: called for lines that describe the campaign's
    state; they are shown at first and every `STATUS_EVERY_S` seconds.

    Raises:
        EcrlError: no ecrl works on the prefix, or it writes to a terminal of its own.
    """
    told = _get_holder(paths, "attach")
    if not told.logs:
        raise EcrlError(
            "ECRL-314",
            f"campaign {paths.prefix} is run by pid {told.owner.pid} in a terminal; it has no log to attach to.\n"
            f"Watch it with: ecrl matrix status {paths.options} --watch",
        )
    tail, due = FileTail(paths.log), 0.0
    try:
        for line in tail.lines()[-last_lines:]:
            say(line.decode(errors="replace"))
        while True:
            ended = not is_held(paths)  # checked before the lines are read, so that none is missed
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
    say: Callable[[str], None] = lambda _text: None,
) -> Holder:
    """Ask the prefix's ecrl to hand over (SIGTERM, like Ctrl-C), and wait until it has released the prefix.

    now: also end the workers without a grace period (like a second Ctrl-C). patience_s: how many seconds to wait.
    say: shows what takes long.

    Raises:
        EcrlError: no ecrl works on the prefix, it runs on another host, or it has not released the prefix in time.
    """
    told = _get_holder(paths, "stop")
    pid = told.owner.pid
    if check_owner(told.owner) is not Liveness.ALIVE:
        raise EcrlError(
            "ECRL-310",
            f"campaign {paths.prefix} is run by pid {pid} on another host, {told.owner.host}.\n"
            f"On that host, type: ecrl matrix stop {paths.options}",
        )
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return told
    try:
        if check_owner(told.owner) is Liveness.ALIVE:  # so the descriptor is not of a later process with the same pid
            signal.pidfd_send_signal(handle, signal.SIGTERM)
            if now:  # another signal: of two pending SIGTERMs the kernel keeps one
                signal.pidfd_send_signal(handle, signal.SIGINT)
        deadline = time.monotonic() + patience_s
        wait = Wait(lambda: f"pid {pid} to end its workers and hand over", say, _SOON_S)
        while (still := holder(paths)) is not None and still.owner == told.owner:
            if time.monotonic() > deadline:
                raise EcrlError(
                    "ECRL-315",
                    f"pid {pid} still runs campaign {paths.prefix}, {patience_s:.0f} s after the request to stop.\n"
                    f"To end its workers at once, type: ecrl matrix stop {paths.options} --now",
                )
            wait.look()
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
                f"no ecrl is running campaign {paths.prefix}: there is nothing to {command}.\n{_next_command(paths)}",
            )
        if time.monotonic() > deadline:
            raise EcrlError(
                "ECRL-309",
                f"campaign {paths.prefix} is held by an unknown process; its lock is {paths.lock}.\n"
                f"To find the process, type: fuser -v {shlex.quote(str(paths.lock))}",
            )
        time.sleep(_POLL_S)
    return told


def _next_command(paths: CampaignPaths) -> str:
    """The command to suggest when no ecrl works on the campaign."""
    if paths.manifest.exists():
        counts = manifest.read(paths).counts
        if not any(counts[status] for status in (manifest.PENDING, manifest.RUNNING, manifest.INTERRUPTED)):
            return f"Nothing is left to run. Tables and report: ecrl report {paths.options}"
    if not paths.matrix.is_file():
        return f"{paths.matrix} is missing: restore it to continue the campaign."
    return f"Continue it with: ecrl matrix resume {paths.options}"
