"""An exception under both launchers, and what is killed while the agent of torchrun is kept warm."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ecrl.launch.system.device_leases import LEASE_MARKER, DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids, get_start_ticks, iterate_environments
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from tests.process.program import Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

SHORT = """
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
launcher = "{launcher}"
[run]
device = "cpu"
"""


@pytest.mark.parametrize("launcher", ["cold", "warm"])
def test_a_real_exception_fails_its_run_with_its_log_and_the_next_run_still_ends(ecrl: Ecrl, launcher: str) -> None:
    (ecrl.folder / "sitecustomize.py").write_text(
        "import os, random\n"
        "seed = random.seed\n"
        "def broken(*a):\n"
        "    if os.environ.get('RANK') == '1' and '/blocking/' in os.environ.get('ECRL_RUN', ''):\n"
        "        raise RuntimeError('no entropy left')\n"
        "    return seed(*a)\n"
        "random.seed = broken\n"
    )
    text = SHORT.format(variants='["blocking", "reference"]', steps=40, launcher=launcher)
    code, _, errors = ecrl.run("run", ecrl.matrix(text), PYTHONPATH=str(ecrl.folder))
    assert code == 4, errors
    row = next(iter(manifest.read(ecrl.paths).rows.values()))
    assert (row.status, row.runs_done) == ("failed", 2)
    assert "blocking seed1: RuntimeError: no entropy left (rank 1, before its first step)" in row.message
    log = ecrl.paths.root / row.message.rpartition("; log: ")[2]
    assert "stderr.log" in log.name
    assert "no entropy left" in log.read_text()
    outcomes = {path.parents[1].name: json.loads(path.read_text())["outcome"] for path in map(Path, ecrl.results())}
    assert outcomes == {"blocking": "failed", "reference": "completed"}
    code, out, _ = ecrl.run("status")
    assert code == 0
    assert str(log) in out
    assert ecrl.workers() == []


def warm_run(ecrl: Ecrl, steps: int) -> tuple["subprocess.Popen[str]", RunPaths, int]:
    """ecrl in the middle of a warm run of that many steps: its process, the run's files, the agent's pid."""
    process = ecrl.start("run", ecrl.matrix(SHORT.format(variants='["blocking"]', steps=steps, launcher="warm")))
    wait_for(lambda: list(ecrl.paths.root.rglob("events-1-0.jsonl")), "the second attempt")
    paths = RunPaths(next(ecrl.paths.root.rglob("events-1-0.jsonl")).parent)
    events = map(json.loads, paths.launcher_events.read_text().splitlines())
    agent: int = next(event["pid"] for event in events if event["e"] == "spawn")
    return process, paths, agent


def test_kill_9_of_ecrl_leaves_marked_processes_and_resume_ends_the_agent_too(ecrl: Ecrl) -> None:
    process, paths, agent = warm_run(ecrl, steps=600)
    wait_for(lambda: len(find_marked_pids(RUN_MARKER, paths.folder.resolve())) == 2, "two ranks marked as this run's")
    process.kill()
    process.communicate()
    assert agent in ecrl.workers()

    code, _, errors = ecrl.run("resume")
    assert code == 0, errors
    assert "orphaned processes" in errors
    assert not Path(f"/proc/{agent}").exists()
    assert ecrl.workers() == []
    assert ecrl.status() == "completed"


def test_kill_9_of_ecrl_frees_the_devices_only_when_agent_and_fork_server_are_gone(ecrl: Ecrl) -> None:
    process, paths, agent = warm_run(ecrl, steps=600)
    wait_for(lambda: len(find_marked_pids(RUN_MARKER, paths.folder.resolve())) == 2, "two ranks marked as this run's")
    (taken,) = {value for pid, value in iterate_environments(LEASE_MARKER) if pid == agent}
    devices = DeviceSet(tuple(taken.partition(":")[2].split(",")))
    of_the_lease = {pid for pid, value in iterate_environments(LEASE_MARKER) if value == taken}
    assert agent in of_the_lease
    assert len(of_the_lease) >= 4, "agent, fork server and two ranks"
    process.kill()
    process.communicate()
    assert try_lease(devices) is None
    assert f"workers that pid {process.pid} (prefix exp) left when it died" in describe_holders(devices)
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
    process, _, agent = warm_run(ecrl, steps=100_000)
    os.kill(agent, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors
    assert "torchrun was ended by SIGKILL" in next(iter(manifest.read(ecrl.paths).rows.values())).message
    assert ecrl.workers() == []
