"""A rank that has recorded its end leaves at once: nothing that runs at an interpreter's end can make it a crash."""

import subprocess
import sys

PROGRAM = """
import atexit, os, sys
from ecrl.worker.leave import leave
atexit.register(os.abort)
print("said")
leave(int(sys.argv[1]))
"""


def left_with(code: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_rank_that_is_done_leaves_without_the_interpreters_end_and_loses_no_output() -> None:
    done = left_with(0)
    assert (done.returncode, done.stdout) == (0, "said\n")


def test_a_rank_that_is_not_done_ends_as_any_program_does() -> None:
    assert left_with(86).returncode == -6, "exit handlers run"
