"""Finds finished suites that lack a result.

With 100,000 suites this takes most of the time of a resume, so several processes share it. The helper processes run
this file as their program: it imports only modules that Python has in memory.
"""

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

_MISSING_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_FILES_PER_PROCESS = 20_000  # checking them takes several times as long as starting a process
_MAX_PROCESSES = 4  # processes; more are limited by the file system


def find_missing_results(folder: Path, suites: Sequence[str], results: Sequence[str]) -> list[str]:
    """The suites that lack a result: a file that is missing, empty or not a regular file. The order is kept.

    Args:
        folder: the campaign's suites/.
        suites: their ids.
        results: paths of the results, relative to a suite's folder.
    """
    processes = min(_MAX_PROCESSES, len(os.sched_getaffinity(0)), len(suites) * len(results) // _FILES_PER_PROCESS)
    if processes < 2:
        return _find_missing_here(folder, suites, results)
    size = -(-len(suites) // processes)
    own, *others = (suites[begin : begin + size] for begin in range(0, len(suites), size))
    with ExitStack() as stack:
        helpers = [stack.enter_context(_start_helper(folder, part, results)) for part in others]
        gone = _find_missing_here(folder, own, results)
        for part, helper in zip(others, helpers, strict=True):
            answer, _ = helper.communicate()
            # a helper that was killed has not checked its part
            gone += answer.split() if helper.returncode == 0 else _find_missing_here(folder, part, results)
    return gone


def _start_helper(folder: Path, suites: Sequence[str], results: Sequence[str]) -> "subprocess.Popen[str]":
    with os.fdopen(os.memfd_create("suites"), "w+") as names:  # not a pipe: no wait for the helper's start
        names.write("\n".join(suites))
        names.seek(0)
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(folder), *results],
            stdin=names, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip


def _find_missing_here(folder: Path, suites: Sequence[str], results: Sequence[str]) -> list[str]:
    """Find the suites that lack a result, in this process."""
    try:
        # Paths relative to this descriptor are short: the kernel walks every part of a path.
        suites_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return list(suites)
    tails = ["/" + result for result in results]
    gone = []
    try:
        for suite_id in suites:
            try:
                for tail in tails:
                    found = os.stat(suite_id + tail, dir_fd=suites_fd)
                    if not found.st_size or not stat.S_ISREG(found.st_mode):
                        gone.append(suite_id)
                        break
            except OSError as error:
                if error.errno in _MISSING_ERRNOS:  # another error does not prove that it is gone
                    gone.append(suite_id)
    finally:
        os.close(suites_fd)
    return gone


if __name__ == "__main__":
    print("\n".join(_find_missing_here(Path(sys.argv[1]), sys.stdin.read().split(), sys.argv[2:])))
