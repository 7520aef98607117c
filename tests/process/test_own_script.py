"""A training script that knows nothing of restarts but `ecrl.attach`, as the job of a campaign with failures."""

import json
from pathlib import Path

import pytest

from tests.process.program import Ecrl

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "ddp.py"
MATRIX = """
[matrix]
checkpoint_every = [10]
variants = ["reference", "{engine}"]
[job]
script = "train.py"
[failures]
mixed = {failures}
[train]
steps = 60
nproc = 2
[run]
device = "cpu"
"""
# One rank is late in every attempt: without that, the race for the dead group's addresses is won most of the time.
LATE = "import os, time; time.sleep(1 if os.environ['RANK'] == '1' else 0)\n"
SCHEDULES = {
    "step": "[25]",
    "staging": '[{ at = 30, phase = "staging" }]',
    "persist": '[{ at = 40, phase = "persist" }]',
    "commit": '[{ at = 40, phase = "commit" }]',
    "retention": '[{ at = 40, phase = "retention" }]',
    "restore": '[25, { phase = "restore" }]',
    "init": '[25, { phase = "init" }]',
}


@pytest.mark.sampled("own-script")
@pytest.mark.parametrize("engine", ["blocking", "overlapped"])
@pytest.mark.parametrize("phase", SCHEDULES)
def test_a_script_that_is_killed_ends_as_the_reference(phase: str, engine: str, ecrl: Ecrl) -> None:
    (ecrl.folder / "train.py").write_text(LATE + EXAMPLE.read_text())
    code, _, errors = ecrl.run("run", ecrl.matrix(MATRIX.format(engine=engine, failures=SCHEDULES[phase])))
    assert code == 0, errors
    code, _, errors = ecrl.report()
    assert code == 0, errors
    gates = {path.parts[-3]: json.loads(path.read_text())["gates"] for path in map(Path, ecrl.results())}
    assert [gates[engine][code]["passed"] for code in ("C1", "C2", "C3", "C5")] == [True] * 4, gates[engine]
    rows = (ecrl.paths.table("runs.csv")).read_text().splitlines()
    cells = next(dict(zip(rows[0].split(","), row.split(","), strict=False)) for row in rows if f",{engine}," in row)
    assert (cells["c4"], cells["c6"]) == ("not_measured", "pass")


def test_a_script_that_never_attaches_is_a_failed_run_with_its_reason(ecrl: Ecrl) -> None:
    (ecrl.folder / "train.py").write_text("print('done')\n")
    text = (
        MATRIX.format(engine="blocking", failures="[]").replace('"reference", ', "").replace("nproc = 2", "nproc = 1")
    )
    code, _, errors = ecrl.run("run", ecrl.matrix(text))
    assert code == 4, errors
    assert "does not name ecrl" in errors
    assert "the script ended and never called ecrl.attach" in errors
    assert "[ECRL-657]" in errors
