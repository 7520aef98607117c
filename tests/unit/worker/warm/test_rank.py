"""Ranks of a warm run are found by the marker of their run, and so is whatever they fork."""

import os
import subprocess
import sys
from pathlib import Path

from ecrl.launch.system.process_group import end_leftovers
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids

# A fork of the server becomes a rank, forks a helper, and is killed; the helper goes on.
RANK = """
import os, sys, time
from ecrl.worker.warm.rank import _overwrite_environ
os.environ["ECRL_RUN"] = sys.argv[1]
_overwrite_environ("ECRL_RUN", sys.argv[1])
if os.fork() == 0:
    print("forked", flush=True)
    time.sleep(60)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_rank_has_forked_is_found_by_its_runs_marker(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RANK, str(tmp_path)],
        env=os.environ | {RUN_MARKER: "the agent's".ljust(4096, ".")},
        stdout=subprocess.PIPE,
    ) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == b"forked\n"
        rank.wait()
        (helper,) = find_marked_pids(RUN_MARKER, tmp_path)
        assert helper != rank.pid
        assert end_leftovers(tmp_path) == 1
