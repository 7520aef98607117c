"""Child processes that answer a question: how they are started, and the descriptor on which they answer."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ecrl.records.paths import find_current_folder

REPLY_VARIABLE = "ECRL_REPLY_FD"
_POLL_S = 0.1


@dataclass(frozen=True)
class Reply:
    """The end of a child. text: its answer. output: what it, and libraries in it, printed. code: its exit code."""

    text: str
    output: str
    code: int


def build_module_command(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs a module with this Python. Nothing is imported from the current folder."""
    return (sys.executable, "-P", "-m", module, *arguments)


def find_working_folder() -> str | None:
    """The folder in which children start: None, that of ecrl, unless it was removed."""
    # MKL loads nothing in a folder that does not exist.
    return None if find_current_folder() is not None else "/"


def ask(
    command: Sequence[str], environment: Mapping[str, str], request: str = "", check: Callable[[], None] = lambda: None
) -> Reply:
    """Run a child that answers on the descriptor that REPLY_VARIABLE names. What it prints is no answer.

    request: its stdin. check: called ten times a second; the child is killed if it raises.
    """
    with os.fdopen(os.memfd_create("reply"), "rb") as answer:  # not a pipe: nobody has to read it meanwhile
        own = {REPLY_VARIABLE: str(answer.fileno())}
        # The child has a session of its own, so that only ecrl handles Ctrl-C.
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=find_working_folder(),
            env={**environment, **own},
            pass_fds=[answer.fileno()],
            start_new_session=True,
        ) as process:
            try:
                output = _communicate(process, request, check)
            finally:
                with contextlib.suppress(ProcessLookupError):  # usually the process has already ended
                    if process.returncode is None:
                        os.killpg(process.pid, signal.SIGKILL)
        answer.seek(0)
        return Reply(answer.read().decode(errors="replace"), output, process.returncode)


def _communicate(process: "subprocess.Popen[str]", request: str, check: Callable[[], None]) -> str:
    to_send: str | None = request
    while True:
        try:
            output, _ = process.communicate(to_send, timeout=_POLL_S)
            return str(output)
        except subprocess.TimeoutExpired:
            to_send = None  # communicate keeps the rest of the input
            check()
