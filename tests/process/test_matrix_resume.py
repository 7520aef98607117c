"""ecrl itself is doubled, stopped and killed over real torchrun: nothing is lost, repeated or left behind.

Under the warm launcher, which leaves an agent more to be ended; test_side_by_side.py does the like with cold ones.
"""

import json
import os
import signal
from pathlib import Path

import pytest

from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids
from tests.extras import need
from tests.process.program import PATIENCE_S, Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

# Two runs of one rank: the reference and its repeat, which are not restarted.
MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [20]
variants = ["reference"]
seeds = [1]
[train]
steps = 60
batch_size = 8
nproc = 1
launcher = "warm"
[run]
device = "cpu"
aa = true
trackers = ["prometheus"]
"""


def is_second_run_stopped(ecrl: Ecrl) -> bool:
    """Whether the second run has begun; stops its processes (SIGSTOP), so that it cannot end by itself."""
    begun = [path.parent for path in ecrl.paths.root.rglob("events-0-0.jsonl") if ".aside-" not in str(path)]
    pids = [pid for folder in begun for pid in find_marked_pids(RUN_MARKER, folder.resolve())]
    if len(begun) < 2 or not pids:
        return False
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return len(ecrl.results()) == 1


def find_agent(ecrl: Ecrl) -> int:
    """The agent of the newest attempt, which serves all of them."""
    events_path = max(ecrl.paths.root.rglob("events-launcher.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    events = map(json.loads, events_path.read_text().splitlines())
    return next(int(event["pid"]) for event in events if event["e"] == "spawn")


def test_held_hung_up_and_killed_no_finished_run_is_lost_repeated_or_left_behind(ecrl: Ecrl) -> None:
    need("prometheus", "tracker")
    process = ecrl.start("run", ecrl.matrix(MATRIX))
    wait_for(lambda: is_second_run_stopped(ecrl), "the second run")
    finished = ecrl.results()
    code, _, errors = ecrl.run("resume")
    assert code == 5, errors
    assert f"pid {process.pid}" in errors

    process.send_signal(signal.SIGHUP)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 129
    command = f"ecrl matrix resume --prefix exp --results {ecrl.paths.results}"
    assert errors.splitlines()[-1] == command
    assert ecrl.workers() == []
    assert ecrl.status() == "interrupted"
    assert ecrl.results() == finished

    process = ecrl.start("resume")
    wait_for(lambda: is_second_run_stopped(ecrl), "the second run again")
    process.kill()
    process.communicate()
    assert ecrl.status() == "running"
    agent = find_agent(ecrl)
    assert agent in ecrl.workers(), "kill -9 of ecrl alone leaves torchrun and its rank"

    code, out, errors = ecrl.run("resume", "--json")
    assert code == 0, errors
    assert "orphaned processes" in errors
    assert json.loads(out)["counts"]["completed"] == 1
    assert not Path(f"/proc/{agent}").exists()
    assert ecrl.workers() == []
    after = ecrl.results()
    assert len(after) == 2
    assert {path: after[path] for path in finished} == finished
    assert len(list(ecrl.paths.root.rglob("seed1.aside-*"))) == 2
    assert ecrl.status() == "completed"
    metrics = (ecrl.paths.trackers / "prometheus" / "ecrl_exp.prom").read_text().splitlines()
    ended = [line for line in metrics if line.startswith("ecrl_final_completed{")]
    assert len(ended) == 1, "the run that this ecrl made; the earlier one made the other"
    assert ended[0].endswith(" 1.0")
