"""The same scenarios under both launchers: torchrun anew for every run, and its agent kept warm."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from ecrl.analysis.run.restarts import restarts
from ecrl.analysis.run.timeline import timeline
from ecrl.config.load import load
from ecrl.config.suite import expand_matrix
from ecrl.launch.system.device_leases import LEASE_MARKER, DeviceSet, Lease, describe_holders, try_lease
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids, get_start_ticks, iterate_environments
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run
from tests.process.program import Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

CRASHES = """
[matrix]
datasets = ["fashion-mini"]
models = ["cnn"]
checkpoint_every = [5]
max_inflight = [2]
variants = ["reference", "overlapped"]
launchers = ["cold", "warm"]
[failures]
two = [8, 17]                  # both inside an interval, one on each rank
[train]
steps = 22
batch_size = 8
nproc = 2
[run]
device = "cpu"
"""

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


class Crashed:
    """A finished campaign of both launchers. records: by (variant, launcher)."""

    def __init__(self, ecrl: Ecrl) -> None:
        code, _, errors = ecrl.run("run", ecrl.matrix(CRASHES), "--yes")
        assert code == 0, errors
        self.left = ecrl.workers()
        self.paths: dict[tuple[str, str], RunPaths] = {}
        for suite in expand_matrix(load(ecrl.paths.matrix)):
            for variant in suite.variants:
                self.paths[variant, suite.train.launcher] = ecrl.paths.run(suite.suite_id, variant, 1337)
        self.records: dict[tuple[str, str], RunRecord] = {key: read_run(p) for key, p in self.paths.items()}


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crashed]:
    ecrl = Ecrl(tmp_path_factory.mktemp("launchers"))
    try:
        yield Crashed(ecrl)
    finally:
        ecrl.close()


@pytest.mark.parametrize("launcher", ["cold", "warm"])
@pytest.mark.parametrize(("variant", "number"), [("reference", 0), ("overlapped", 2)])
def test_every_planned_crash_is_survived_reported_and_logged(
    crashed: Crashed, variant: str, number: int, launcher: str
) -> None:
    record, paths = crashed.records[variant, launcher], crashed.paths[variant, launcher]
    assert record.result is not None
    assert record.result["outcome"] == "completed"
    assert (record.result["failures_fired"], record.result["restarts"]) == (number, number)
    assert [record.result["gates"][gate]["passed"] for gate in ("C1", "C3", "C5")] == [True] * 3
    assert record.result["gates"]["C2"]["passed"] is (True if number else None)
    reported = [(e["local_rank"], e["exitcode"]) for e in record.launcher if e["e"] == "worker_failed"]
    assert reported == [(0, -9), (1, -9)][:number]
    logs = {str(p.relative_to(paths.logs)).partition("/")[2] for p in paths.logs.glob("*/attempt_*/*/stderr.log")}
    assert logs == {f"attempt_{a}/{r}/stderr.log" for a in range(number + 1) for r in range(2)}


def test_both_launchers_end_with_the_bits_of_the_uninterrupted_cold_run(crashed: Crashed) -> None:
    final = {
        key: {rank: (e["digest"], e["rng_digest"]) for _, rank, e in record.get_events("final")}
        for key, record in crashed.records.items()
    }
    assert len(final["reference", "cold"]) == 2
    assert all(found == final["reference", "cold"] for found in final.values())


def test_no_run_is_charged_with_the_start_of_the_agent(crashed: Crashed) -> None:
    prepared = {}
    for key, record in crashed.records.items():
        if found := [event for event in record.launcher if event["e"] == "prepared"]:
            prepared[key] = found
            assert found[0]["t"] <= next(event["t"] for event in record.launcher if event["e"] == "spawn")
    [((_, launcher), [event])] = prepared.items()  # one agent serves both runs
    assert launcher == "warm"
    assert event["t0"] < event["t"]


@pytest.mark.parametrize("launcher", ["cold", "warm"])
def test_every_rank_begins_to_restore_before_the_process_group_is_up(crashed: Crashed, launcher: str) -> None:
    record = crashed.records["overlapped", launcher]
    began = {(a, r): (e["t0"], e["s"], e["state"]) for a, r, e in record.get_events("verified")}
    grouped = {(a, r): e["t"] for a, r, e in record.get_events("group")}
    restored = {(a, r): e["step"] for a, r, e in record.get_events("restored") if e["step"] > 0}
    assert restored.keys() == began.keys() == {(1, 0), (1, 1), (2, 0), (2, 1)}
    for key, (t0, step, state) in began.items():
        assert t0 < grouped[key]
        assert (step, state) == (restored[key], "valid")


def test_one_agent_serves_every_warm_run_and_is_gone_with_the_campaign(crashed: Crashed) -> None:
    pids = {
        launcher: {
            next(e["pid"] for e in crashed.records[variant, launcher].launcher if e["e"] == "spawn")
            for variant in ("reference", "overlapped")
        }
        for launcher in ("cold", "warm")
    }
    assert [len(pids[launcher]) for launcher in ("cold", "warm")] == [2, 1]
    assert crashed.left == []


def test_a_warm_restart_is_a_fraction_of_a_cold_one(crashed: Crashed) -> None:
    seconds: dict[str, list[float]] = {"cold": [], "warm": []}
    for record in crashed.records.values():
        line, _ = timeline(record)
        assert line is not None
        for restart in restarts(record, line):
            assert None not in restart.seconds.values()
            assert restart.total_s is not None
            seconds[record.spec["train"]["launcher"]].append(restart.total_s)
    assert [len(found) for found in seconds.values()] == [2, 2]
    assert median(seconds["warm"]) < 0.25 * median(seconds["cold"])


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
