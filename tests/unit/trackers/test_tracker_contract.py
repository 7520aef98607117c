"""Every tracker keeps each point once, whatever its process dies of, read back with the tracker's own library."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.trackers.run_feed import Progress, RunFeed, read_spec
from ecrl.trackers.tracker import Point
from tests.extras import need
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.trackers.stores import READERS

# A process that dies right after the tracker got the points, before that is written down.
DIES = (
    "import os, sys; from ecrl.trackers import __main__ as program, fed\n"
    "fed.Fed.keep = lambda *_: os._exit(9)\n"
    "program.main(*sys.argv[1:])"
)


def feed(paths: CampaignPaths, tracker: str, *program: str) -> int:
    command = [sys.executable, "-P", *(program or ("-m", "ecrl.trackers")), str(paths.root), tracker]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode


@pytest.mark.filterwarnings("ignore")
def test_campaigns_of_one_name_are_runs_of_their_own_on_one_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("mlflow", "tracker")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'shared.db'}")
    for folder in ("one", "two"):
        paths = campaign(tmp_path / folder, variants=["blocking"], datasets=["fashion-mini"], seeds=[1], claims="")
        assert feed(paths, "mlflow") == 0
    client = MlflowClient()
    [experiment] = [one for one in client.search_experiments() if one.name == "exp"]
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]
    counts = [len(client.get_metric_history(run.info.run_id, "loss")) for run in runs]
    assert counts[0] == counts[1], "no point of one is in the other"


def list_points(run: RunPaths) -> list[Point]:
    spec = read_spec(run)
    assert spec is not None
    return [point for points in RunFeed(run, spec, Progress()).read() for point in points]


def test_a_family_has_a_reader_for_each_member() -> None:
    assert set(READERS) == set(plugins.names("tracker"))


@pytest.mark.filterwarnings("ignore")  # of the libraries, inside themselves
@pytest.mark.parametrize("name", plugins.names("tracker"))
def test_a_tracker_that_dies_and_goes_on_has_each_point_once(name: str, tmp_path: Path) -> None:
    need(name, "tracker")
    paths = campaign(tmp_path, variants=["blocking"], datasets=["fashion-mini"], seeds=[1], claims="")
    [spec] = paths.suites.rglob("run.json")
    run = RunPaths(spec.parent)
    events, result = run.events(1, 0), run.result.read_bytes()
    whole = events.read_bytes()
    run.result.unlink()
    events.write_bytes(whole[: len(whole) // 2])
    assert feed(paths, name) == 0
    assert READERS[name](paths.trackers / name).completed is None
    events.write_bytes(whole)
    run.result.write_bytes(result)
    assert feed(paths, name, "-c", DIES) == 9
    assert feed(paths, name) == 0
    assert feed(paths, name) == 0, "there is nothing new"

    stored, points = READERS[name](paths.trackers / name), list_points(run)
    assert stored.completed is True
    if name == "prometheus":  # the newest value of each series
        last = {key: value for point in points for key, value in point.values.items()}
        assert len(stored.points) == len(last)
        assert {("ecrl_loss", 12), ("ecrl_failures", 12), ("ecrl_stall_seconds", 12)} <= {p[:2] for p in stored.points}
        newest = {name: value for name, _, value in stored.points}
        assert newest["ecrl_goodput_steps_per_second"] == last["goodput_steps_per_s"]
        assert stored.parameters["variant"] == "blocking"
        return
    expected = [(key, point.step, value) for point in points for key, value in point.values.items()]
    assert Counter(p[:2] for p in stored.points) == Counter(p[:2] for p in expected)
    values = [value for *_, value in sorted(expected)]
    assert [value for *_, value in sorted(stored.points)] == pytest.approx(values, rel=1e-6)
    assert stored.parameters["train.steps"] == "12"
    assert stored.parameters["model"] == "cnn"
