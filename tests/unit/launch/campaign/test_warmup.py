"""The warm-up: once per device set and session, discarded, and no obstacle to the campaign."""

import json
import signal
import threading
import time
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.launch.campaign import warmup
from ecrl.launch.campaign.clean import DEFAULT_KINDS, clean
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request
from ecrl.launch.campaign.store import load_frozen
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, find_marked_pids
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

WARM = MATRIX + "[run]\nwarmup = true\n"


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def ask(tmp_path: Path, text: str = WARM) -> Request:
    return request(tmp_path / "results", text=text)


def folders(paths: CampaignPaths) -> list[str]:
    return sorted(path.name for path in paths.warmups.glob("*"))


def test_before_the_first_run_of_a_session_an_engine_runs_without_failures(tmp_path: Path) -> None:
    asked, launcher, seen = ask(tmp_path), StandIn(), Notes()
    assert control(launcher, seen).run(asked, Policy()) == 0
    assert len(launcher.started) == 1 + 6
    assert launcher.started[0] == "early/blocking"
    spec = json.loads((asked.paths.warmups / "1" / "run.json").read_text())
    assert (spec["failures"], spec["block_order"], spec["train"]["steps"]) == ([], [], 6)
    assert 6 // spec["checkpoint_every"] >= warmup.MIN_CHECKPOINTS
    assert any("warm-up on cpu" in text and "discarded" in text for text in seen.texts)
    assert control(StandIn()).resume(asked.paths, Policy()) == 0  # nothing is left to run
    assert folders(asked.paths) == ["1"]


def test_it_is_no_run_of_the_manifest_nor_of_the_analysis(tmp_path: Path) -> None:
    asked = ask(tmp_path)
    control(StandIn()).run(asked, Policy())
    assert sum(row.runs_total for row in manifest.read(asked.paths).rows.values()) == 6
    found = load_campaign(asked.paths)
    assert (len(found.runs), found.again, found.registration.stray) == (6, (), ())


def test_a_session_that_goes_on_warms_up_again(tmp_path: Path) -> None:
    asked = ask(tmp_path)
    assert control(StandIn({"late/blocking": "crash"})).run(asked, Policy()) == 4
    launcher = StandIn()
    assert control(launcher).resume(asked.paths, Policy(retry_failed=True)) == 0
    assert launcher.started == ["late/blocking", "late/blocking"]
    assert folders(asked.paths) == ["1", "2"]


def test_each_set_of_devices_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECRL_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("ECRL_FAKE_GPUS", "4")
    wide = MATRIX.replace("checkpoint_every = [2]", "checkpoint_every = [1, 2, 3]")
    asked, seen = ask(tmp_path, wide + "[run]\njobs = 2\nwarmup = true\n"), Notes()
    assert control(StandIn(), seen).run(asked, Policy()) == 0
    begun = [text for text in seen.texts if "discarded" in text]
    assert len({text.partition(":")[0] for text in begun}) == len(begun) == len(folders(asked.paths)) == 2


def test_its_failure_is_a_warning_with_its_log(tmp_path: Path) -> None:
    class FailsFirst(StandIn):
        def command(self, run):  # type: ignore[no-untyped-def]
            self.behaviours["blocking"] = "silent" if run.paths.folder.parent.name == "warmups" else "ok"
            return super().command(run)

    asked, seen = ask(tmp_path), Notes()
    assert control(FailsFirst(), seen).run(asked, Policy()) == 0
    (warning,) = [text for text in seen.texts if text.startswith("warning: the warm-up")]
    log = Path(warning.rpartition("log: ")[2])
    assert log.is_file()
    assert log.is_relative_to(asked.paths.warmups.resolve())
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}


def test_one_that_would_take_long_is_ended_after_enough_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warmup, "WARMUP_S", 0.01)

    class HangsFirst(StandIn):
        def command(self, run):  # type: ignore[no-untyped-def]
            self.behaviours["blocking"] = "hang" if run.paths.folder.parent.name == "warmups" else "ok"
            return super().command(run)

    text = WARM.replace("checkpoint_every = [2]", "checkpoint_every = [1]")
    asked = ask(tmp_path, text)
    assert control(HangsFirst()).run(asked, Policy()) == 0
    assert not (asked.paths.warmups / "1" / "result.json").exists()
    assert find_marked_pids(CAMPAIGN_MARKER, asked.paths.root.resolve()) == []


def test_a_signal_during_it_leaves_every_suite_to_run(tmp_path: Path) -> None:
    asked, stop = ask(tmp_path), StopRequest()

    def interrupt() -> None:
        while not list(asked.paths.warmups.glob("1/events-0-*.jsonl")):
            time.sleep(0.02)
        stop.request(signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    presser.start()
    launcher = StandIn({"blocking": "hang"})
    with pytest.raises(StoppedError):
        control(launcher, stop=stop).run(asked, Policy())
    presser.join()
    assert launcher.started == ["early/blocking"]
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"pending"}
    assert find_marked_pids(CAMPAIGN_MARKER, asked.paths.root.resolve()) == []
    assert control(StandIn()).resume(asked.paths, Policy()) == 0
    assert folders(asked.paths) == ["1", "2"]


def test_a_matrix_may_want_none_and_one_frozen_before_there_was_any_goes_on(tmp_path: Path) -> None:
    asked, launcher = ask(tmp_path, MATRIX + "[run]\nwarmup = false\n"), StandIn({"early/blocking": "crash"})
    assert control(launcher).run(asked, Policy()) == 4
    assert len(launcher.started) == 6
    assert folders(asked.paths) == []
    hash_before = load_frozen(asked.paths).experiment_hash
    asked.paths.matrix.write_text(asked.paths.matrix.read_text().replace("warmup = false\n", ""))
    assert load_frozen(asked.paths).experiment_hash == hash_before
    assert control(StandIn()).resume(asked.paths, Policy(retry_failed=True)) == 0
    assert folders(asked.paths) == ["1"]


def test_the_preview_counts_it_and_clean_removes_it(tmp_path: Path) -> None:
    asked = ask(tmp_path)
    assert control(StandIn()).preview(asked).estimate.warmups == 1
    assert control(StandIn()).preview(ask(tmp_path, MATRIX)).estimate.warmups == 0
    control(StandIn()).run(asked := ask(tmp_path), Policy())
    assert control(StandIn()).preview(asked).estimate.warmups == 0, "nothing is left to run"
    assert [each.path.name for each in clean(asked.paths, DEFAULT_KINDS) if each.kind == "warm-ups"] == ["1"]
    assert folders(asked.paths) == []
