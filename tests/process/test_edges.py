"""Failures at the edges of a run: at its last step, in its last checkpoint, after every step, in a run of one step."""

import csv
from pathlib import Path

import pytest

from tests.process.program import Ecrl

pytestmark = [pytest.mark.process, pytest.mark.timeout(600)]

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [{every}]
variants = ["reference", "{engine}"]
[failures]
edge = {failures}
[train]
steps = {steps}
batch_size = 2
nproc = 1
launcher = "warm"
[run]
device = "cpu"
"""


# (steps, checkpoint_every, failures, restarts, replayed steps of a blocking engine)
@pytest.mark.sampled("surroundings")  # each has a warm agent of its own
@pytest.mark.parametrize("engine", ["blocking", "overlapped"])
@pytest.mark.parametrize(
    ("steps", "every", "failures", "restarts", "replayed"),
    [
        pytest.param(6, 2, "[1, 6]", 2, 1, id="after the last step"),
        pytest.param(7, 3, "[7]", 1, 1, id="behind the last checkpoint"),
        pytest.param(
            6, 3, '[{ at = 6, phase = "persist" }, { phase = "restore" }, { phase = "init" }]', 3, 3, id="in the drain"
        ),
        pytest.param(1, 1, "[1]", 1, 0, id="in a run of one step"),
        pytest.param(8, 8, "[1, 2, 3, 4, 5, 6, 7, 8]", 8, 28, id="after every step"),
        pytest.param(6, 2, "[{ mtbf_s = 0.001, seed = 1, count = 4 }]", 4, None, id="faster than a restart"),
    ],
)
def test_the_end_is_that_of_the_reference_and_every_failure_and_step_is_counted(
    tmp_path: Path, engine: str, steps: int, every: int, failures: str, restarts: int, replayed: int | None
) -> None:
    ecrl = Ecrl(tmp_path)
    try:
        text = MATRIX.format(engine=engine, steps=steps, every=every, failures=failures)
        code, _, errors = ecrl.run("run", ecrl.matrix(text))
        assert code == 0, errors
        assert ecrl.report()[0] == 0
    finally:
        ecrl.close()
    rows = list(csv.DictReader((ecrl.paths.root / "exp_runs.csv").read_text().splitlines()))
    [run] = [row for row in rows if row["variant"] == engine]
    assert (run["outcome"], run["correct"], run["d_max"]) == ("completed", "true", "0")
    assert int(run["restarts"]) == restarts
    assert int(run["executed_steps"]) == steps + int(run["replayed_steps"])
    if replayed is not None and engine == "blocking":
        assert int(run["replayed_steps"]) == replayed
