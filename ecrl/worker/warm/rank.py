"""One rank of a warm run, executed in its fork of the server. Loads no torch, because the agent imports this module."""

import os
import sys
import traceback
from pathlib import Path

from ecrl.worker.__main__ import main


def run_rank(folder: str, environment: dict[str, str]) -> None:
    """Run one rank in a new fork of the server, like `python -m ecrl.worker FOLDER` with `environment` added."""
    for name, value in environment.items():
        os.environ[name] = value
        _overwrite_environ(name, value)
    try:
        code = main(Path(folder))
    except Exception:
        traceback.print_exc()  # to stderr, like the interpreter; torch's wrapper would not print it there
        code = 1
    if code:
        sys.exit(code)


# A file of pids in the run's folder would not do: processes that a rank forks (a data loader's or an engine's) inherit
# this memory and can be found by it after the rank's end, but no such file would list them. The folder may also be
# removed meanwhile.
def _overwrite_environ(name: str, value: str) -> None:
    """Make /proc/self/environ contain `name=value`.

    Raises:
        RuntimeError: the environment of the fork server lacks the variable, or its value there is too short.
    """
    # /proc/self/environ shows the memory that holds the variables of the last exec, for a fork the server's. The new
    # value is written over the old one there; the server's value is made long enough for it.
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(stat[47]), int(stat[48])
    with open("/proc/self/mem", "r+b", buffering=0) as memory:  # noqa: PTH123
        block = os.pread(memory.fileno(), end - begin, begin)
        for found in _find_variables(block):
            key, _, old = block[slice(*found)].partition(b"=")
            if key == name.encode():
                new = value.encode()
                if len(new) > len(old):
                    raise RuntimeError(f"{name}: no room for {len(new)} bytes in the environment of the fork server")
                os.pwrite(memory.fileno(), new.ljust(len(old), b"\0"), begin + found[1] - len(old))
                return
    raise RuntimeError(f"{name} is not in the environment of the fork server")


def _find_variables(block: bytes) -> list[tuple[int, int]]:
    """The begin and end of each `name=value` in an environment block."""
    found, begin = [], 0
    for entry in block.split(b"\0"):
        found.append((begin, begin + len(entry)))
        begin += len(entry) + 1
    return found
