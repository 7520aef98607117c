"""`ecrl matrix run | status`, `ecrl report` and `ecrl doctor` on a tiny campaign in each of the worlds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ecrl
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
from tests.surroundings.worlds import WORLDS, World, write_matrix

_PATIENCE_S = 280.0


def run_in(world: World, here: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ecrl there; what it printed is in `stdout`, errors first."""
    package = str(Path(ecrl.__file__).parent.parent)
    given = {name: value.format(here=here, path=package) for name, value in world.environment.items()}
    alone = ["unshare", "-r", *world.unshare] if world.unshare else []
    script = f'{world.before}\nexec "$@"' if world.before else 'exec "$@"'
    return subprocess.run(
        # -P: as the command `ecrl`, which takes nothing from the current folder
        [*alone, "sh", "-c", script, "sh", sys.executable, "-P", "-m", "ecrl", *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": package, "NO_COLOR": "1"} | given,
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )


@pytest.fixture
def here(world: World, tmp_path: Path) -> Path:
    """The current folder in a world."""
    if world.unshare and subprocess.run(["unshare", "-r", *world.unshare, "true"], check=False).returncode:
        pytest.skip("namespaces of one's own need rights that this user lacks")
    for name, text in world.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if "TMPDIR" in world.environment:
        Path(world.environment["TMPDIR"].format(here=tmp_path)).mkdir()
    write_matrix(world, tmp_path / "m.toml")
    return tmp_path


@pytest.mark.sampled("surroundings")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("world", WORLDS, ids=[world.name for world in WORLDS])
def test_a_world_gives_the_right_result_or_a_clear_exit(world: World, here: Path) -> None:
    results = here / "results"
    where = ("--prefix", "p", "--results", str(results))
    done = run_in(world, here, "matrix", "run", *where, str(here / "m.toml"), *world.arguments)
    told = done.stderr
    assert done.returncode == world.code, told
    assert all(fact in told for fact in world.facts), told
    assert find_marked_pids(CAMPAIGN_MARKER, (results / "p").resolve()) == [], "processes are left"
    later = [run_in(world, here, "doctor", "--results", str(results))]
    if world.code == 0:
        result = json.loads(next(results.rglob("result.json")).read_text())
        assert result["outcome"] == "completed", result
        assert result["restarts"] == 1
        status = run_in(world, here, "matrix", "status", *where)
        report = run_in(world, here, "report", *where, "--format", "csv")
        assert (status.returncode, report.returncode) == (0, 0), status.stderr + report.stderr
        later += [status, report]
    for one in (done, *later):
        assert "Traceback" not in one.stderr, one.stderr
    assert later[0].returncode in (0, 6), later[0].stderr
