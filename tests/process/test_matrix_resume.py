"""ecrl itself is stopped, killed and doubled over real torchrun groups: nothing is lost, repeated or left behind."""

import json
import signal
from collections.abc import Callable

import pytest

from tests.process.program import PATIENCE_S, Ecrl, wait_for

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [20]
variants = ["blocking", "reference"]
seeds = [1]
[failures]
base = [30]
[train]
steps = 60
batch_size = 8
nproc = 2
[run]
device = "cpu"
"""


def in_the_second_run(ecrl: Ecrl) -> Callable[[], bool]:
    """Whether the first run has its result and the ranks of the second one live."""

    def reached() -> bool:
        begun = {path.parent for path in ecrl.paths.root.rglob("events-0-0.jsonl")}
        return len(ecrl.results()) == 1 and len(begun) == 2

    return reached


def test_kill_9_then_resume_ends_the_orphans_and_repeats_no_finished_run(ecrl: Ecrl) -> None:
    process = ecrl.start("run", ecrl.matrix(MATRIX))
    wait_for(in_the_second_run(ecrl), "the second run")
    process.kill()
    process.communicate()
    assert ecrl.status() == "running"
    assert ecrl.workers(), "kill -9 of ecrl alone leaves torchrun and its ranks"
    finished = ecrl.results()

    code, _, errors = ecrl.run("resume")
    assert code == 0, errors
    assert "orphaned processes" in errors
    assert ecrl.workers() == []
    after = ecrl.results()
    assert len(after) == 2
    assert {path: after[path] for path in finished} == finished
    assert len(list(ecrl.paths.root.rglob("seed1.aside-1"))) == 1
    assert ecrl.status() == "completed"


def test_sighup_hands_over_and_resume_goes_on(ecrl: Ecrl) -> None:
    process = ecrl.start("run", ecrl.matrix(MATRIX))
    wait_for(in_the_second_run(ecrl), "the second run")
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
    finished = ecrl.results()

    code, out, errors = ecrl.run("resume", "--json")
    assert code == 0, errors
    assert json.loads(out)["counts"]["completed"] == 1
    after = ecrl.results()
    assert {path: after[path] for path in finished} == finished
