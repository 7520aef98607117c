"""Several suites at once on sets of their own, sets that fail too often, and attempts that come back late."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import IO

import pytest

from ecrl.cli.ui.campaign_tables import show_status
from ecrl.cli.ui.lines import format_lines
from ecrl.launch.campaign.lock import holder
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.selection import Selection, parse_terms
from ecrl.launch.runs.failure_cause import BUG
from ecrl.launch.runs.launcher import RunHandle
from ecrl.launch.runs.outcome import write_result
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.system.device_leases import DeviceSet, try_lease
from ecrl.launch.system.signals import StoppedError, StopRequest
from ecrl.launch.views.snapshot import CampaignWatch
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_result
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

WIDE = MATRIX.replace("checkpoint_every = [2]", "checkpoint_every = [1, 2, 3]") + "[run]\njobs = 3\n"


@pytest.fixture(autouse=True)
def _fake_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECRL_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("ECRL_FAKE_GPUS", "6")


class Counting(StandIn):
    """Notes on which devices each suite's runs were started, and how many went on at once."""

    devices: dict[str, set[str]] = {}  # noqa: RUF012 (shared by the copies of one launcher, made anew by the test)
    lock = threading.Lock()

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        assert self.lease is not None
        with self.lock:
            self.devices.setdefault(run.spec.suite_id, set()).add(str(self.lease.devices))
        return super().start(run, campaign, log)


def test_suites_run_at_once_each_on_one_set_and_every_run_is_made_once(tmp_path: Path) -> None:
    asked, launcher = request(tmp_path / "results", text=WIDE), Counting()
    launcher.devices.clear()
    assert control(launcher).run(asked, Policy()) == 0
    assert len(launcher.started) == 6 * 3
    assert all(len(sets) == 1 for sets in launcher.devices.values()), "blocks stay together, on one set"
    assert len({next(iter(sets)) for sets in launcher.devices.values()}) == 3
    assert {row.status for row in manifest.read(asked.paths).rows.values()} == {"completed"}
    tokens = [json.loads(path.read_text())["token"] for path in asked.paths.root.rglob("run.json")]
    assert sorted(tokens) == list(range(1, 19))


def test_an_error_of_ecrls_own_in_one_lane_ends_all_and_is_told(tmp_path: Path) -> None:
    class Broken(StandIn):
        def command(self, run: Run) -> list[str]:
            if run.spec.failure_label == "late":
                raise OSError(28, "No space left on device", str(run.paths.folder))
            return super().command(run)

    asked = request(tmp_path / "results", text=WIDE)
    with raises("ECRL-504", "suites", "no space left"):
        control(Broken()).run(asked, Policy())
    assert "running" not in {row.status for row in manifest.read(asked.paths).rows.values()}
    assert control(StandIn()).resume(asked.paths, Policy()) == 0


def test_a_set_on_which_runs_keep_failing_alike_is_not_used_any_more_and_that_is_said(tmp_path: Path) -> None:
    class Listening(SilentObserver):
        def __init__(self) -> None:
            self.notes: list[str] = []

        def note(self, text: str) -> None:
            self.notes.append(text)

    text = WIDE.replace("jobs = 3", "jobs = 1\nstop_after_same = 2") + 'gpus = [0]\ndevice = "cpu"\n'
    observer = Listening()
    asked = request(tmp_path / "results", text=text)
    launcher = StandIn(dict.fromkeys(("reference", "blocking", "overlapped"), "silent"))
    with raises("ECRL-311", "2 runs in a row", " --only dataset=noise --retry-failed") as raised:
        control(launcher, observer).run(asked, Policy(selection=Selection(parse_terms("dataset=noise"))))
    assert raised.value.exit_code == 4
    assert len([note for note in observer.notes if note.startswith("warning: ") and "2 runs in a row" in note]) == 3
    left = [row for row in manifest.read(asked.paths).rows.values() if row.status == "pending"]
    assert len(left) == 3
    assert control(StandIn()).resume(asked.paths, Policy(retry_failed=True)) == 0


class Broken(StandIn):
    """Whose first set of devices fails every run; the others none."""

    made: list[tuple[str, int]] = []  # noqa: RUF012 (shared by the copies of one launcher, made anew by the test)

    def command(self, run: Run) -> list[str]:
        assert self.lease is not None
        self.made.append((str(self.lease.devices), run.spec.seed))
        self.behaviours[run.spec.variant] = "silent" if str(self.lease.devices) == "fake 0,1" else "ok"
        return super().command(run)


SEEDS = MATRIX.replace("[failures]", "seeds = [1, 2, 3, 4]\n[failures]").replace("late = [5]\n", "")


def test_a_suite_leaves_a_set_that_is_not_used_any_more_after_the_block_and_another_set_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECRL_FAKE_GPUS", "4")
    asked, launcher = request(tmp_path / "results", text=SEEDS + "[run]\nstop_after_same = 2\n"), Broken()
    launcher.made.clear()
    assert control(launcher).run(asked, Policy(retry_failed=True)) == 4
    assert launcher.made == [("fake 0,1", 1)] * 3 + [("fake 2,3", seed) for seed in (2, 3, 4) for _ in range(3)]
    (row,) = manifest.read(asked.paths).rows.values()
    assert (row.status, row.runs_done, row.attempts) == ("failed", 12, 2)
    assert row.message.startswith("3 runs failed; first: ")


def test_where_no_other_set_is_left_what_is_finished_of_the_suite_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECRL_FAKE_GPUS", "2")
    asked, launcher = request(tmp_path / "results", text=SEEDS + "[run]\nstop_after_same = 2\n"), Broken()
    launcher.made.clear()
    with raises("ECRL-311", "fake 0,1", "1 suite ", "--retry-failed"):
        control(launcher).run(asked, Policy())
    assert len(launcher.made) == 3
    (row,) = manifest.read(asked.paths).rows.values()
    assert (row.status, row.runs_done) == ("interrupted", 3)
    assert row.message == "fake 0,1 is not used any more: left before seed2"
    assert control(StandIn()).resume(asked.paths, Policy(retry_failed=True)) == 0


def test_a_signal_while_a_failed_suite_waits_for_devices_hands_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECRL_FAKE_GPUS", "2")
    stop = StopRequest()

    class Impatient(SilentObserver):
        def note(self, text: str) -> None:
            if text.startswith("waiting for "):
                stop.request(signal.SIGINT)

    asked = request(tmp_path / "results")
    assert control(StandIn({"early/blocking": "crash"})).run(asked, Policy()) == 4
    lease = try_lease(DeviceSet(("fake-0", "fake-1")), asked.paths)
    assert lease is not None
    with pytest.raises(StoppedError) as told:
        control(StandIn(), Impatient(), stop).resume(asked.paths, Policy(retry_failed=True))
    lease.release()
    assert told.value.exit_code == 130
    assert str(told.value).splitlines()[-1] == f"ecrl matrix resume {asked.paths.options} --retry-failed"


def test_a_wait_for_devices_is_told_by_status_and_watch_until_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECRL_FAKE_GPUS", "2")
    asked = request(tmp_path / "results")
    control(StandIn()).plan(asked)
    lease = try_lease(DeviceSet(("fake-0", "fake-1")), asked.paths)
    assert lease is not None
    codes: list[int] = []
    resuming = threading.Thread(target=lambda: codes.append(control(StandIn()).resume(asked.paths, Policy())))
    resuming.start()
    while (held := holder(asked.paths)) is None or not held.waits_for:
        pass
    told = f"waiting for fake 0,1: taken by pid {os.getpid()} (prefix exp)"
    show_status(asked.paths)
    assert told in capsys.readouterr().out
    watch = CampaignWatch(asked.paths)
    assert told in "\n".join(format_lines(watch.take_snapshot()))
    lease.release()
    while (held := holder(asked.paths)) is not None and held.waits_for:
        pass
    assert "waiting" not in "\n".join(format_lines(watch.take_snapshot()))
    watch.close()
    resuming.join()
    assert codes == [0]


def test_a_failed_run_keeps_its_kind(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn({"early/blocking": "crash"})).run(asked, Policy())
    (path,) = [p for p in asked.paths.root.rglob("result.json") if json.loads(p.read_text())["outcome"] == "failed"]
    assert json.loads(path.read_text())["failure"] == {"kind": BUG, "evidence": ""}


def test_a_late_result_of_an_older_attempt_is_set_aside_and_never_taken(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    path = next(asked.paths.root.rglob("result.json"))
    paths, result = RunPaths(path.parent), json.loads(path.read_text())
    spec = json.loads(paths.spec.read_text())
    newer = {**spec, "token": spec["token"] + 7}
    paths.spec.write_text(json.dumps(newer))  # a newer attempt has begun in this folder
    assert read_result(paths, spec["run_hash"]) is None
    path.unlink()
    late = f"result.late-{spec['token']}.json"
    with raises("ECRL-502", late, f"ecrl matrix status {asked.paths.options}"):
        write_result(result, {}, paths)
    assert (paths.folder / late).exists()
    assert not path.exists()
    path.write_text(json.dumps(result))  # written between the other's look and its own result
    result["token"] = newer["token"]
    write_result(result, {}, paths)
    found = read_result(paths, spec["run_hash"])
    assert found is not None
    assert found["token"] == newer["token"]
