"""One rank of a warm run: what it does in the fork that was made for it. No torch here: the agent imports this."""

import os
import sys
import traceback
from pathlib import Path

from ecrl.worker.__main__ import main


def run_rank(folder: str, environment: dict[str, str]) -> None:
    """One rank, in a new fork of the server: as `python -m ecrl.worker FOLDER` with `environment` added."""
    for name, value in environment.items():
        os.environ[name] = value
        _overwrite_environ(name, value)
    try:
        code = main(Path(folder))
    except Exception:
        traceback.print_exc()  # where the interpreter would print it; torch's wrapper would not
        code = 1
    if code:
        sys.exit(code)


# Not a file of pids in the run's folder: what a rank forks (a data loader's or an engine's process) inherits this
# memory and is found by it when the rank is gone, but would be in no such file; and a folder can be removed meanwhile.
def _overwrite_environ(name: str, value: str) -> None:
    """Make /proc/self/environ say `name=value`.

    It shows the variables with which the process was last exec'ed, which for a fork are the server's, from
    that very memory: so the new value is written over the old one, which was made long enough for it.
    """
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
    """Where each `name=value` of an environment block begins and ends."""
    found, begin = [], 0
    for entry in block.split(b"\0"):
        found.append((begin, begin + len(entry)))
        begin += len(entry) + 1
    return found
