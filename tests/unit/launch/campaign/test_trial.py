"""Trials: what a few steps tell of the time of a campaign that nobody has run, and what they leave behind: nothing."""

import dataclasses
import json
import signal
import tempfile
from pathlib import Path

import pytest

from ecrl.launch.campaign import trial
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.expected_time import ExpectedTime
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request
from ecrl.launch.campaign.trial import read_trial
from ecrl.launch.runs.experiment import SuiteGroup, Trial
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.system.device_leases import try_lease
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, request, training


class Notes(SilentObserver):
    """An observer that keeps the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def make_control(launcher: StandIn, notes: Notes, stop: StopRequest | None = None) -> Control:
    kind = training(launcher, tries=True)
    return Control(notes, StopRequest() if stop is None else stop, load_kind=lambda _name: kind)


def preview(asked: Request, launcher: StandIn, notes: Notes) -> ExpectedTime:
    return make_control(launcher, notes).preview(asked).expected_time


def test_suites_of_equal_steps_share_a_trial_that_leaves_nothing_behind(tmp_path: Path, temporary: Path) -> None:
    launcher, notes, asked = StandIn(), Notes(), request(tmp_path / "results")
    told = preview(asked, launcher, notes)
    assert (told.runs, told.tried, told.prefixes) == (6, 6, ())
    assert told.seconds > 0
    assert len(launcher.started) == 1, "both suites differ in their failures alone"
    assert launcher.started[0].endswith("/reference")
    assert notes.notes[-1] == "trying 4 steps of noise x cnn to tell the time..."
    assert list(temporary.iterdir()) == []
    assert not asked.paths.results.exists()
    assert preview(asked, launcher, notes).tried == 6, "its devices are free again"


def test_what_a_campaign_measured_is_not_tried(tmp_path: Path) -> None:
    launcher, notes, asked = StandIn(), Notes(), request(tmp_path / "results")
    make_control(launcher, notes).run(asked, Policy())
    begun = len(launcher.started)
    longer = request(tmp_path / "results", "two", MATRIX.replace("early = [3]", "early = [3]\nmore = []"))
    told = preview(longer, launcher, notes)
    assert (told.runs, told.tried, told.prefixes) == (9, 3, ("exp",))
    assert len(launcher.started) == begun + 1


def test_a_matrix_of_many_models_is_tried_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_MOST_TRIALS", 1)
    text = MATRIX.replace('["cnn"]', '["cnn", "resnet18"]')
    told = preview(request(tmp_path / "results", text=text), launcher := StandIn(), Notes())
    assert (told.tried, len(launcher.started)) == (6, 1)


def test_a_run_that_fails_tells_no_time_and_says_why(tmp_path: Path, temporary: Path) -> None:
    notes = Notes()
    told = preview(request(tmp_path / "results"), StandIn({"reference": "crash"}), notes)
    assert (told.runs, told.to_json()["seconds"]) == (0, None)
    assert notes.notes[-1].startswith("no step could be tried to tell the time: RuntimeError: boom")
    assert list(temporary.iterdir()) == []


def test_devices_in_use_are_left_alone(tmp_path: Path) -> None:
    launcher, notes, asked = StandIn(), Notes(), request(tmp_path / "results")
    control = make_control(launcher, notes)
    matrix = control.preview(asked).campaign.matrix
    sets = training(launcher).inspect_machine(matrix, None, print, StopRequest()).list_device_sets(matrix)
    leases = [lease for one in sets if (lease := try_lease(one)) is not None]
    begun = len(launcher.started)
    try:
        assert preview(asked, launcher, notes).tried == 0
    finally:
        for lease in leases:
            lease.release()
    assert notes.notes[-1] == "no step was tried to tell the time: the devices are in use"
    assert len(launcher.started) == begun


def test_a_folder_that_cannot_be_made_tells_no_time(tmp_path: Path, temporary: Path) -> None:
    temporary.rmdir()
    notes = Notes()
    assert preview(request(tmp_path / "results"), StandIn(), notes).tried == 0
    assert "no step could be tried to tell the time: No such file or directory" in notes.notes[-1]


def test_a_signal_ends_a_trial_and_the_preview(tmp_path: Path, temporary: Path) -> None:
    stop, notes = StopRequest(), Notes()
    control = make_control(StandIn({"reference": "hang"}), notes, stop)
    object.__setattr__(notes, "note", lambda text: stop.request(signal.SIGINT) if text.startswith("trying") else None)
    with raises("ECRL-312"):
        control.preview(request(tmp_path / "results"))
    assert list(temporary.iterdir()) == []


def test_a_trial_of_long_steps_is_ended_and_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_LONGEST_S", 0.2)
    told = preview(request(tmp_path / "results"), StandIn({"reference": "hang"}), Notes())
    assert told.tried == 6


def test_times_are_those_of_the_records(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    paths.spec.write_text(json.dumps({"run_hash": "h", "train": {"nproc": 1}}))
    Recorder(paths.launcher_events).event("spawn", t=1 * 10**9, pid=1)
    assert read_trial(paths) is None
    recorder = Recorder(paths.events(0, 0))
    recorder.event("step", t=5 * 10**9, t0=3 * 10**9, s=1, loss=0.0, ids="")
    assert read_trial(paths) == Trial(start_s=2.0, step_s=2.0)
    for step, end in ((2, 5.5), (3, 6.0), (4, 7.5)):
        recorder.event("step", t=round(end * 10**9), t0=0, s=step, loss=0.0, ids="")
    assert read_trial(paths) == Trial(start_s=3.5, step_s=0.5), "of the first step, what is more than a step"


def test_an_estimate_counts_starts_steps_restarts_and_what_is_repeated(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    kind = training(StandIn(), tries=True)
    groups = make_control(StandIn(), Notes()).preview(asked)
    suite = groups.campaign.suites[1]  # late: a failure at 5, a checkpoint every 2
    assert suite.failure_steps == (5,)
    group = SuiteGroup(suite, 1, {"reference": 1, "blocking": 1})
    told = kind.estimate_s(group, Trial(start_s=8.0, step_s=0.5))
    assert told == pytest.approx(2 * (8.0 + 6 * 0.5) + 4.0 + 0.5)
    warm = dataclasses.replace(suite, train=dataclasses.replace(suite.train, launcher="warm"))
    group = SuiteGroup(warm, 1, {"reference": 1, "blocking": 1})
    assert kind.estimate_s(group, Trial(start_s=8.0, step_s=0.5)) == pytest.approx(2 * (8.0 + 6 * 0.5) + 0.5)
