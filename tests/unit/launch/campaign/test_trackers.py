"""Trackers beside a campaign: their failures and delays are theirs alone, and nothing of them is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.launch.campaign import trackers
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.system.process_identity import RUN_MARKER, find_marked_pids
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.wait import Wait
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.extras import need
from tests.unit.cli.inline import run_inline
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

PATIENCE_S = 60.0
HANG = dict.fromkeys(("reference", "blocking", "overlapped"), "hang")


class Notes(SilentObserver):
    """An observer that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ask(results: Path, *names: str) -> Request:
    text = MATRIX.replace('variants = ["reference"', "")
    return request(results, text=f'{text}\n[run]\ndevice = "cpu"\ntrackers = {json.dumps(names)}\n')


def find_processes(paths: CampaignPaths, name: str) -> list[int]:
    return find_marked_pids(RUN_MARKER, (paths.trackers / name).resolve())


def read_metrics(paths: CampaignPaths) -> list[str]:
    return (paths.trackers / "prometheus" / f"ecrl_{paths.prefix}.prom").read_text().splitlines()


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)


def test_every_run_of_a_campaign_is_in_the_tracker_when_it_ends(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked, observer = ask(tmp_path / "results", "prometheus"), Notes()
    assert control(StandIn(), observer).run(asked, Policy()) == 0
    ended = [line for line in read_metrics(asked.paths) if line.startswith("ecrl_final_completed{")]
    assert len(ended) == 6
    assert all(line.endswith(" 1.0") for line in ended)
    assert [note for note in observer.notes if "tracker" in note] == [
        f"tracker prometheus: {asked.paths.trackers}/prometheus/ecrl_exp.prom"
    ]
    assert find_processes(asked.paths, "prometheus") == []


def test_a_tracker_that_fails_is_told_of_once_and_the_campaign_is_what_it_would_be(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked, observer = ask(tmp_path / "results", "prometheus"), Notes()
    (asked.paths.trackers / "prometheus" / "ecrl_exp.prom").mkdir(parents=True)  # cannot be replaced by a file
    assert control(StandIn(), observer).run(asked, Policy()) == 0
    assert manifest.read(asked.paths).counts["completed"] == 2
    [told] = [note for note in observer.notes if "IsADirectoryError" in note]
    assert "ecrl track --prefix exp" in told
    assert "Traceback" in (asked.paths.trackers / "prometheus" / "tracker.log").read_text()


def test_a_tracker_whose_folder_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked, observer = ask(tmp_path / "results", "prometheus"), Notes()
    asked.paths.root.mkdir(parents=True)
    asked.paths.trackers.write_text("a file")
    assert control(StandIn(), observer).run(asked, Policy()) == 0
    [told] = [note for note in observer.notes if note.startswith("warning: tracker prometheus: ")]
    assert str(asked.paths.trackers) in told


def test_a_tracker_that_hangs_is_ended_with_the_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("tensorboard", "tracker")
    monkeypatch.setattr(trackers, "_PATIENCE_S", 1)
    monkeypatch.setattr(trackers, "Wait", partial(Wait, first_s=0.1))
    asked, observer = ask(tmp_path / "results", "tensorboard"), Notes()
    for suite_id in manifest.read(planned(asked)).rows:
        for variant in ("reference", "blocking", "overlapped"):
            pipe = asked.paths.trackers / "tensorboard" / suite_id / variant / "seed1337" / "events.out.tfevents.ecrl"
            pipe.parent.mkdir(parents=True)
            os.mkfifo(pipe)  # to open it waits for a reader, for ever
    assert control(StandIn(), observer).run(asked, Policy()) == 0
    assert [note for note in observer.notes if "was not done after 1 s" in note] != []
    assert any("waiting for tracker tensorboard to pass on the last records" in note for note in observer.notes)
    assert find_processes(asked.paths, "tensorboard") == []


def planned(asked: Request) -> CampaignPaths:
    control(StandIn()).plan(asked)
    return asked.paths


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[CampaignPaths]:
    """A campaign whose ecrl was killed while its first run hung; the run's processes are ended afterwards."""
    need("prometheus", "tracker")
    asked = ask(tmp_path / "results", "prometheus")
    arguments = ["run", str(asked.paths.results), "exp", str(asked.source), json.dumps(HANG)]
    program = subprocess.Popen([sys.executable, "-m", "tests.unit.launch.stand_in", *arguments])
    try:
        wait_until(lambda: find_processes(asked.paths, "prometheus"), "the tracker")
        wait_until(lambda: [*asked.paths.suites.rglob("events-0-0.jsonl")], "a step")
        program.kill()
        program.wait()
        yield asked.paths
    finally:
        program.kill()
        program.wait()
        for spec in asked.paths.suites.rglob("run.json"):
            for pid in find_marked_pids(RUN_MARKER, spec.parent.resolve()):
                os.kill(pid, signal.SIGKILL)


def test_a_killed_ecrl_leaves_no_tracker_behind_and_what_was_recorded_is_fed(killed: CampaignPaths) -> None:
    wait_until(lambda: not find_processes(killed, "prometheus"), "the tracker's end")
    [loss] = [line for line in read_metrics(killed) if line.startswith("ecrl_loss{")]
    assert loss.endswith(f" {1 / 3}"), "of step 3, where the run hangs"


def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, launcher = ask(tmp_path / "results", "mlflow"), StandIn()
    monkeypatch.setattr(plugins, "find_missing", lambda _family, names: dict.fromkeys(names, "mlflow"))
    with raises("ECRL-290", "pip install 'ecrl[mlflow]'"):
        control(launcher).run(asked, Policy())
    assert (launcher.started, asked.paths.root.exists()) == ([], False)


def test_an_unknown_tracker_is_a_problem_of_the_matrix(tmp_path: Path) -> None:
    with raises("ECRL-211", "tensorbord", "Did you mean 'tensorboard'?"):
        control(StandIn()).plan(ask(tmp_path / "results", "tensorbord"))


def test_a_tracker_is_no_identity_and_a_flag_replaces_it(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked = ask(tmp_path / "results")
    assert control(StandIn()).run(asked, Policy()) == 0
    assert not asked.paths.trackers.exists()
    where = ("--prefix", "exp", "--results", str(asked.paths.results))
    done = run_inline("matrix", "resume", *where, "--dry-run", "--json", ECRL_TRACKERS="tensorbord")
    assert done.returncode == 2
    assert "ECRL_TRACKERS" in done.stderr
    assert run_inline("matrix", "resume", *where, "--trackers", "prometheus").returncode == 0
    assert 'trackers = [\n    "prometheus",\n]' in asked.paths.matrix.read_text()
    assert control(StandIn()).resume(asked.paths, Policy()) == 0, "the same campaign"


def test_track_feeds_afterwards_and_says_what_and_where(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked = ask(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    command = ("track", "--to", "prometheus", "--results", str(asked.paths.results), "--json")
    [fed] = json.loads(run_inline(*command).stdout)["trackers"]
    assert (fed["tracker"], fed["runs"]) == ("prometheus", 6)
    assert fed["points"] > 6 * 6
    assert Path(fed["where"]).is_file()
    [again] = json.loads(run_inline(*command).stdout)["trackers"]
    assert (again["runs"], again["points"]) == (0, 0)


def test_track_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    need("prometheus", "tracker")
    asked = ask(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    where = ("--results", str(asked.paths.results))
    unknown = run_inline("track", "--to", "prometeus", *where)
    assert (unknown.returncode, "[ECRL-291]" in unknown.stderr) == (2, True)
    (asked.paths.trackers / "prometheus" / "ecrl_exp.prom").mkdir(parents=True)
    failed = run_inline("track", "--to", "prometheus", *where)
    assert (failed.returncode, "[ECRL-580]" in failed.stderr) == (4, True)
    stopped = StopRequest()
    stopped.request(signal.SIGINT)
    with raises("ECRL-312"):
        trackers.track(asked.paths, "prometheus", stopped, print)
