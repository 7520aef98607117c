"""`--jobs` over real torchrun: suites side by side on sets of CPU cores of their own, stopped, killed and resumed."""

import contextlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

from ecrl.launch.system.device_leases import DeviceSet, try_lease
from ecrl.launch.system.process_identity import RUN_MARKER, iterate_environments
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from tests.process.program import PATIENCE_S, Ecrl, wait_for

CORES = sorted(os.sched_getaffinity(0))[:2]

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
    pytest.mark.skipif(len(CORES) < 2, reason="suites run side by side on two cores at least"),
]

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [20, 10]
variants = ["reference"]
seeds = [1]
{axis}
[failures]
base = [30]
[train]
steps = 40
batch_size = 8
nproc = 1
[run]
device = "cpu"
"""
BLOCKS_OF_TWO = MATRIX.format(axis="") + "aa = true\n"  # the reference and its repeat: no restarts, for speed


@pytest.fixture(autouse=True)
def _two_cores() -> object:
    """The machine has these two cores: two sets for runs of one rank, whatever it really has."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, CORES)
    yield
    os.sched_setaffinity(0, before)


def freed() -> bool:
    """Whether both cores can be leased now."""
    lease = try_lease(DeviceSet(tuple(f"cpu-{core}" for core in CORES)))
    if lease is not None:
        lease.release()
    return lease is not None


def overlapping(ecrl: Ecrl, seen: dict[str, set[str]]) -> bool:
    """Whether ranks of two suites live at this moment; `seen` takes in on which devices each suite was."""
    live = ecrl.live()
    for suite_id, devices in live.items():
        seen.setdefault(suite_id, set()).update(devices)
    return len(live) == 2


def stuck(ecrl: Ecrl, seen: dict[str, set[str]]) -> bool:
    """Stop (SIGSTOP) the ranks and launchers of two suites at once, so that they cannot end by themselves."""
    signalled = ecrl.workers() if overlapping(ecrl, seen) else []
    for pid in signalled:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    if signalled and len(ecrl.live()) < 2:  # one of them had ended by then
        for pid in signalled:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return False
    return bool(signalled)


def disjoint(seen: dict[str, set[str]]) -> bool:
    """Two suites, each on one set, and not on the same."""
    return [len(devices) for devices in seen.values()] == [1, 1] and len(set.union(*seen.values())) == 2


def statuses(ecrl: Ecrl) -> list[str]:
    return [row.status for row in manifest.read(ecrl.paths).rows.values()]


def test_two_suites_at_once_survive_ctrl_c_and_kill_9_and_no_run_is_lost_or_made_twice(ecrl: Ecrl) -> None:
    seen: dict[str, set[str]] = {}
    process = ecrl.start("run", ecrl.matrix(BLOCKS_OF_TWO), "--jobs", "5")
    wait_for(lambda: overlapping(ecrl, seen), "two suites at once")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    assert re.search(r"warning: --jobs 5: .* 2 ", errors)
    assert errors.splitlines()[-1].startswith("ecrl matrix resume --prefix exp")
    assert statuses(ecrl) == ["interrupted", "interrupted"]
    assert ecrl.workers() == []
    assert freed()
    assert disjoint(seen)

    seen.clear()
    process = ecrl.start("resume")
    wait_for(lambda: ecrl.results() and stuck(ecrl, seen), "two suites at once after a finished run")
    process.kill()
    process.communicate()
    finished = ecrl.results()
    assert len(ecrl.live()) == 2, "kill -9 of ecrl alone leaves torchrun and its ranks"
    assert not freed(), "and their cores are taken as long as they live"
    assert statuses(ecrl) == ["running", "running"]
    code, out, _ = ecrl.run("status")
    assert (code, len(re.findall(r"\(\d+ orphaned process", out))) == (0, 2)
    assert disjoint(seen)

    code, _, errors = ecrl.run("resume")
    assert code == 0, errors
    assert "orphaned processes" in errors
    assert statuses(ecrl) == ["completed", "completed"]
    after = ecrl.results()
    assert len(after) == 4
    assert {path: after[path] for path in finished} == finished
    tokens = [json.loads(path.read_text())["token"] for path in ecrl.paths.root.rglob("run.json")]
    assert len(set(tokens)) == len(tokens), "no two attempts share a token"
    for row in manifest.read(ecrl.paths).rows.values():
        of_attempts: dict[int, set[str]] = {}
        for record in manifest.history(ecrl.paths, row.suite_id):
            if record.get("where"):
                of_attempts.setdefault(record["attempts"], set()).add(record["where"])
        assert [len(sets) for sets in of_attempts.values()] == [1, 1, 1], "a block stays on one set"
    assert ecrl.workers() == []
    assert freed()


def test_cold_and_warm_suites_side_by_side_have_one_agent_a_set(ecrl: Ecrl) -> None:
    text = MATRIX.format(axis='launchers = ["cold", "warm"]')
    code, _, errors = ecrl.run("run", ecrl.matrix(text), "--jobs", "2")
    assert code == 0, errors
    pids: dict[tuple[str, str], set[int]] = {}  # by launcher and set
    for path in map(Path, ecrl.results()):
        paths = RunPaths(path.parent)
        launcher = json.loads(paths.spec.read_text())["train"]["launcher"]
        (where,) = {r["where"] for r in manifest.history(ecrl.paths, path.parents[2].name) if r.get("where")}
        events = map(json.loads, paths.launcher_events.read_text().splitlines())
        spawned = next(event for event in events if event["e"] == "spawn")
        pids.setdefault((launcher, where), set()).add(spawned["pid"])
    assert sum(len(found) for (launcher, _), found in pids.items() if launcher == "cold") == 2
    assert {len(found) for (launcher, _), found in pids.items() if launcher == "warm"} == {1}
    assert ecrl.workers() == []
    assert freed()
    assert not [pid for pid, marker in iterate_environments(RUN_MARKER) if str(ecrl.paths.root.resolve()) in marker]
