"""What the world does to a campaign: cut files, pids and names handed out again, clocks, copies, doubles, deletions."""

import dataclasses
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError, PrefixHeldError
from ecrl.launch.campaign.recover import Policy, list_todo, open_manifest
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.campaign.store import load_frozen
from ecrl.launch.runs.progress import RunProgress, SilentObserver
from ecrl.launch.system.process_identity import get_current_owner
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Manifest, Owner
from ecrl.records.paths import CampaignPaths
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request

VARIED = MATRIX.replace("[failures]", 'variants = ["reference", "blocking"]\n[failures]')


class Listening(SilentObserver):
    """Keeps what was noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def done(tmp_path: Path) -> CampaignPaths:
    """A completed campaign whose journal is not folded in."""
    asked = request(tmp_path / "results", text=VARIED)
    control(StandIn()).run(asked, Policy())
    written = Manifest.open(asked.paths)
    for suite_id in written.rows:
        written.record(suite_id, status="running", owner=dead(asked.paths), message='x, "y" é')
        written.record(suite_id, status="completed", owner=None, token=written.next_token())
    written.close()
    return asked.paths


def dead(paths: CampaignPaths) -> Owner:
    """An owner whose pid belongs to another process by now: this one."""
    return dataclasses.replace(get_current_owner(paths.root), start_ticks=1)


def interrupted(paths: CampaignPaths, owner: Owner) -> None:
    """Leave the first suite as an ecrl leaves it that is killed in it, its last result not there."""
    written = Manifest.open(paths)
    suite_id = next(iter(written.rows))
    written.record(suite_id, status="running", attempts=2, owner=owner)
    written.close()
    next((paths.root / "suites" / suite_id).glob("blocking/*/result.json")).unlink()


def resumed(paths: CampaignPaths, number: int) -> None:
    """`resume` with no flags: so many runs are made, and everything is done."""
    launcher = StandIn()
    assert control(launcher).resume(paths, Policy()) == 0
    assert len(launcher.started) == number
    assert {row.status for row in manifest.read(paths).rows.values()} == {"completed"}


@pytest.mark.parametrize("name", ["journal", "manifest"])
def test_cut_anywhere_the_campaign_is_taken_up_and_nothing_finished_is_made_again(
    done: CampaignPaths, name: str, sampler: random.Random
) -> None:
    size = len(getattr(done, name).read_bytes())
    cut_and_resume(done, name, sorted({0, size - 1, *sampler.sample(range(size), 60)}))


@pytest.mark.torture
@pytest.mark.timeout(900)  # thousands of cuts, each with its own flushes
@pytest.mark.parametrize("name", ["journal", "manifest"])
def test_cut_at_every_byte_the_campaign_is_taken_up(done: CampaignPaths, name: str) -> None:
    cut_and_resume(done, name, range(len(getattr(done, name).read_bytes())))


def cut_and_resume(done: CampaignPaths, name: str, cuts: Iterable[int]) -> None:
    path = getattr(done, name)
    files = {p: p.read_bytes() for p in (done.journal, done.manifest)}
    history = manifest.history_path(done)
    whole, campaign = files[path], load_frozen(done)
    ends = {0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))}
    for cut in cuts:
        for other, data in files.items():
            other.write_bytes(data)
        history.unlink(missing_ok=True)
        path.write_bytes(whole[:cut])
        observer = Listening()
        taken = open_manifest(campaign, Policy(), observer)
        taken.close()
        assert set(taken.rows) == {suite.suite_id for suite in campaign.suites}
        unfinished = list_todo(taken.rows, Policy())
        runs = [run for suite_id in unfinished for run in campaign.runs(campaign.suite(suite_id))]
        assert all(run.paths.result.exists() for run in runs), "a finished run is kept, whatever its row says"
        said = [note for note in observer.notes if "dropped" in note or "are lost" in note or "without a row" in note]
        assert said or cut in ends or (name == "manifest" and whole[:cut].count(b"\n") == len(campaign.suites)), cut
    resumed(done, 0)


def test_a_pid_that_another_process_has_by_now(done: CampaignPaths) -> None:
    interrupted(done, dead(done))
    resumed(done, 1)


def test_a_host_that_has_another_name_by_now(done: CampaignPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(done, dead(done))
    monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
    resumed(done, 1)


def test_a_clock_stepped_back_while_runs_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StepsBack(Listening):
        def run_started(self, spec: object, totals: object) -> None:
            now, now_ns = time.time, time.time_ns
            monkeypatch.setattr(time, "time", lambda: now() - 3600)
            monkeypatch.setattr(time, "time_ns", lambda: now_ns() - 3600 * 10**9)

    asked = request(tmp_path / "results", text=VARIED)
    assert control(StandIn(), StepsBack()).run(asked, Policy()) == 0
    assert all(row.wall_s is not None and 0 < row.wall_s < 60 for row in manifest.read(asked.paths).rows.values())
    resumed(asked.paths, 0)


def test_a_copy_is_a_campaign_of_its_own_even_while_the_original_is_at_work(
    done: CampaignPaths, tmp_path: Path
) -> None:
    interrupted(done, get_current_owner(done.root))  # alive, and at work in the original
    shutil.copytree(done.results, tmp_path / "elsewhere")
    before = {p: p.stat().st_mtime_ns for p in done.root.rglob("*")}
    resumed(CampaignPaths(tmp_path / "elsewhere", "exp"), 1)
    assert {p: p.stat().st_mtime_ns for p in done.root.rglob("*")} == before
    with pytest.raises(PrefixHeldError):
        control(StandIn()).resume(done, Policy())


def test_two_resumes_at_once_make_every_run_once(tmp_path: Path) -> None:
    asked, launchers = request(tmp_path / "results", text=VARIED), [StandIn() for _ in range(4)]
    control(StandIn()).plan(asked)
    codes: list[int] = []

    def resume(launcher: StandIn) -> None:
        try:
            codes.append(control(launcher).resume(asked.paths, Policy()))
        except PrefixHeldError as held:
            codes.append(held.exit_code)

    together = [threading.Thread(target=resume, args=(launcher,)) for launcher in launchers]
    for thread in together:
        thread.start()
    for thread in together:
        thread.join()
    assert set(codes) <= {0, 5}
    assert 0 in codes
    assert sum(len(launcher.started) for launcher in launchers) == 4


def test_a_suite_folder_deleted_by_hand_is_made_again_and_no_other(done: CampaignPaths) -> None:
    suite_id = next(iter(manifest.read(done).rows))
    shutil.rmtree(done.root / "suites" / suite_id)
    resumed(done, 2)


@pytest.mark.parametrize("what", ["run", "suite"])
def test_a_folder_deleted_by_hand_while_its_run_goes_on_costs_that_run_and_is_told(tmp_path: Path, what: str) -> None:
    class Deletes(Listening):
        def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
            folder = asked.paths.run(spec.suite_id, spec.variant, spec.seed).folder
            if spec.variant == "blocking" and spec.failure_label == "late" and progress.step >= 3:
                shutil.rmtree(folder if what == "run" else folder.parents[1], ignore_errors=True)

    asked = request(tmp_path / "results", text=VARIED)
    with pytest.raises(EcrlError, match=r"suites.*: gone while(.|\n)*ecrl matrix resume --prefix exp"):
        control(StandIn({"late/blocking": "hang"}), Deletes()).run(asked, Policy())
    assert "running" not in {row.status for row in manifest.read(asked.paths).rows.values()}
    made = len(list(asked.paths.root.rglob("result.json")))
    resumed(asked.paths, 4 - made)


def test_a_campaign_moved_elsewhere_goes_on(done: CampaignPaths, tmp_path: Path) -> None:
    interrupted(done, dead(done))
    os.rename(done.results, tmp_path / "moved")  # noqa: PTH104
    resumed(CampaignPaths(tmp_path / "moved", "exp"), 1)


def test_the_matrix_is_expanded_alike_by_whoever_looks(done: CampaignPaths) -> None:
    asked = request(done.results, text=VARIED)
    assert resolve_request(asked).campaign.orders == load_frozen(done).orders
