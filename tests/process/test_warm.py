"""An exception, and what is killed while the agent of torchrun is kept warm.

A resume after a kill of ecrl alone is in test_matrix_resume.py, an exception under the cold launcher in test_memory.py.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from ecrl.launch.system.device_leases import LEASE_MARKER, DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids, get_start_ticks, iterate_environments
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from tests.process.program import PATIENCE_S, Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [20]
variants = {variants}
seeds = [1]
[failures]
base = [30]
[train]
steps = {steps}
batch_size = 8
nproc = 2
launcher = "warm"
[run]
device = "cpu"
"""


def test_a_real_exception_fails_its_run_with_its_log_and_the_next_run_still_ends(ecrl: Ecrl) -> None:
    (ecrl.folder / "sitecustomize.py").write_text(
        "import os, random\n"
        "seed = random.seed\n"
        "def broken(*a):\n"
        "    if os.environ.get('RANK') == '1' and '/blocking/' in os.environ.get('ECRL_RUN', ''):\n"
        "        raise RuntimeError('no entropy left')\n"
        "    return seed(*a)\n"
        "random.seed = broken\n"
    )
    text = MATRIX.format(variants='["blocking", "reference"]', steps=40)
    search = os.pathsep.join([str(ecrl.folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    code, _, errors = ecrl.run("run", ecrl.matrix(text), PYTHONPATH=search)
    assert code == 4, errors
    _, shown, _ = ecrl.run("status")
    [row] = manifest.read(ecrl.paths).rows.values()
    assert (row.status, row.runs_done) == ("failed", 2)
    assert "blocking seed1: RuntimeError: no entropy left (rank 1, before its first step)" in row.message
    log = ecrl.paths.root / row.message.rpartition("; log: ")[2]
    assert "stderr.log" in log.name
    assert "no entropy left" in log.read_text()
    assert str(log) in shown
    outcomes = [(p.parents[1].name, json.loads(p.read_text())["outcome"]) for p in map(Path, ecrl.results())]
    assert sorted(outcomes) == [("blocking", "failed"), ("reference", "completed")]
    assert ecrl.workers() == []


class WarmRun:
    """ecrl in the middle of a warm run whose ranks are stopped (SIGSTOP). process: that ecrl. agent: its pid."""

    def __init__(self, ecrl: Ecrl) -> None:
        self.process = ecrl.start("run", ecrl.matrix(MATRIX.format(variants='["blocking"]', steps=300)))
        wait_for(lambda: list(ecrl.paths.root.rglob("events-1-0.jsonl")), "the second attempt")
        self._paths = RunPaths(next(ecrl.paths.root.rglob("events-1-0.jsonl")).parent)
        events = map(json.loads, self._paths.launcher_events.read_text().splitlines())
        self.agent: int = next(event["pid"] for event in events if event["e"] == "spawn")
        wait_for(lambda: len(self._ranks()) == 2, "two ranks marked as this run's")
        self.signal_ranks(signal.SIGSTOP)  # else the run might end before the test is done with it

    def _ranks(self) -> list[int]:
        return find_marked_pids(RUN_MARKER, self._paths.folder.resolve())

    def signal_ranks(self, signum: int) -> None:
        for pid in self._ranks():
            os.kill(pid, signum)

    def kill_ecrl(self) -> None:
        self.process.kill()
        self.process.communicate()


def test_kill_9_of_ecrl_frees_the_devices_only_when_agent_and_fork_server_are_gone(ecrl: Ecrl) -> None:
    run = WarmRun(ecrl)
    (taken,) = {value for pid, value in iterate_environments(LEASE_MARKER) if pid == run.agent}
    devices = DeviceSet(tuple(taken.partition(":")[2].split(",")))
    of_the_lease = {pid for pid, value in iterate_environments(LEASE_MARKER) if value == taken}
    assert run.agent in of_the_lease
    assert len(of_the_lease) >= 4, "agent, fork server and two ranks"
    run.kill_ecrl()
    assert try_lease(devices) is None
    assert f"orphaned workers of pid {run.process.pid} (prefix exp)" in describe_holders(devices)
    run.signal_ranks(signal.SIGCONT)
    lease: Lease | None = None

    def freed() -> bool:
        nonlocal lease
        lease = try_lease(devices)
        return lease is not None

    wait_for(freed, "free devices, once the run that goes on without ecrl has ended and nobody asks for another")
    assert lease is not None
    lease.release()
    assert [pid for pid in of_the_lease if get_start_ticks(pid) is not None] == []
    assert ecrl.workers() == []


def test_kill_9_of_the_agent_fails_its_run_and_leaves_nothing(ecrl: Ecrl) -> None:
    run = WarmRun(ecrl)
    os.kill(run.agent, signal.SIGKILL)
    _, errors = run.process.communicate(timeout=PATIENCE_S)
    assert run.process.returncode == 4, errors
    assert "torchrun was ended by SIGKILL" in next(iter(manifest.read(ecrl.paths).rows.values())).message
    assert ecrl.workers() == []
