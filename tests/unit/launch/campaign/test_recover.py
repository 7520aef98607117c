"""Stale rows: who is dead, who is alive, and who cannot be known."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import Policy, list_todo, open_manifest
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.campaign.store import freeze
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.system.process_group import end_orphans
from ecrl.launch.system.process_identity import (
    CAMPAIGN_MARKER,
    Liveness,
    build_campaign_markers,
    check_owner,
    find_campaign_pids,
    find_marked_pids,
    get_current_owner,
    get_start_ticks,
)
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Manifest, Owner
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import StandIn, control, request


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    campaign = resolve_request(request(tmp_path / "results")).campaign.copy_with_device("cpu")
    freeze(campaign)
    return campaign


def running(campaign: Campaign, owner: Owner) -> str:
    written = Manifest.create(campaign.paths, campaign.rows())
    suite_id = next(iter(written.rows))
    written.record(suite_id, status="running", attempts=1, owner=owner)
    written.close()
    return suite_id


def dead() -> Owner:
    """An owner of this host and boot whose process has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        ticks = get_start_ticks(process.pid)
        assert ticks is not None
    return replace(get_current_owner(), pid=process.pid, start_ticks=ticks)


def test_this_process_is_alive_and_an_ended_one_is_dead() -> None:
    assert check_owner(get_current_owner()) is Liveness.ALIVE
    assert check_owner(dead()) is Liveness.DEAD


def test_a_pid_handed_out_again_is_not_its_former_owner() -> None:
    assert check_owner(replace(get_current_owner(), start_ticks=1)) is Liveness.DEAD


def test_another_boot_of_this_host_is_dead_and_another_host_is_unknown() -> None:
    assert check_owner(replace(get_current_owner(), boot_id="former")) is Liveness.DEAD
    assert check_owner(replace(get_current_owner(), host="elsewhere")) is Liveness.UNKNOWN
    assert check_owner(None) is Liveness.UNKNOWN


def test_a_dead_owners_suite_is_taken_over(campaign: Campaign) -> None:
    suite_id = running(campaign, dead())
    taken = open_manifest(campaign, Policy(), SilentObserver())
    assert (taken.rows[suite_id].status, taken.rows[suite_id].owner) == ("interrupted", None)
    assert suite_id in list_todo(taken.rows, Policy())


def test_a_living_owners_suite_is_held(campaign: Campaign) -> None:
    running(campaign, get_current_owner())
    with raises("ECRL-309", f"pid {os.getpid()}"):
        open_manifest(campaign, Policy(), SilentObserver())


def test_an_owner_elsewhere_is_refused_until_the_user_says_it_is_dead(campaign: Campaign) -> None:
    suite_id = running(campaign, replace(get_current_owner(), host="elsewhere"))
    with raises("ECRL-310", suite_id, "host elsewhere", "--assume-dead elsewhere"):
        open_manifest(campaign, Policy(), SilentObserver())
    assert manifest.read(campaign.paths).rows[suite_id].owner is not None  # refusing has forgotten nothing
    assert (
        open_manifest(campaign, Policy(assume_dead=("elsewhere",)), SilentObserver()).rows[suite_id].status
        == "interrupted"
    )


def test_orphans_are_found_by_their_marker_and_ended_whatever_session_they_are_in(campaign: Campaign) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    environment = {**os.environ, CAMPAIGN_MARKER: str(campaign.marker)}
    with subprocess.Popen(command, env=environment, start_new_session=True) as orphan:
        while find_marked_pids(CAMPAIGN_MARKER, campaign.marker) != [orphan.pid]:
            pass  # between fork and exec it has no environment of its own
        open_manifest(campaign, Policy(), SilentObserver())
        assert orphan.wait(timeout=10) != 0


def orphan_of(folder: Path) -> "subprocess.Popen[bytes]":
    """A worker of the campaign in this folder, whose ecrl is gone."""
    environment = {**os.environ, **build_campaign_markers(folder.resolve())}
    orphan = subprocess.Popen(["sleep", "60"], env=environment, start_new_session=True)
    while orphan.pid not in find_campaign_pids(folder.resolve()):
        pass  # between fork and exec it has no environment of its own
    return orphan


def test_orphans_are_found_after_their_folder_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with orphan_of(before) as orphan:
        before.rename(after)
        assert end_orphans(after.resolve()) == 1
        assert orphan.wait(timeout=10) != 0


def test_a_copy_where_the_campaign_lay_does_not_end_the_workers_of_the_original(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    with orphan_of(before) as orphan:
        before.rename(after)
        before.mkdir()
        assert end_orphans(before.resolve()) == 0
        assert end_orphans(after.resolve()) == 1
        assert orphan.wait(timeout=10) != 0


def test_orphans_are_found_after_their_folder_was_moved_to_another_disk(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    former = before.stat().st_ino
    with orphan_of(before) as orphan:
        shutil.copytree(before, after)
        assert end_orphans(after.resolve(), former=[former]) == 0, "the original is where it was"
        before.rename(tmp_path / "gone")
        assert end_orphans(after.resolve()) == 0
        assert end_orphans(after.resolve(), former=[former]) == 1
        assert orphan.wait(timeout=10) != 0


@pytest.mark.parametrize("copy", [shutil.copyfile, os.link], ids=["cp -r", "cp -rl"])
def test_a_copied_campaign_is_resumed_and_repeats_nothing(tmp_path: Path, copy: Callable[[str, str], object]) -> None:
    asked = request(tmp_path / "results")
    control(StandIn({"late/blocking": "crash"})).run(asked, Policy())
    done = {path.relative_to(asked.paths.root): path.stat().st_size for path in asked.paths.root.rglob("result.json")}
    elsewhere = CampaignPaths(tmp_path / "elsewhere", asked.paths.prefix)
    elsewhere.results.mkdir()
    shutil.copytree(
        asked.paths.root, elsewhere.root, copy_function=copy, ignore=shutil.ignore_patterns("*.lock", "*.holder")
    )
    original = {path: path.read_bytes() for path in asked.paths.root.rglob("*") if path.is_file()}
    launcher = StandIn()
    assert control(launcher).resume(elsewhere, Policy(retry_failed=True)) == 0
    assert launcher.started == ["late/blocking"]
    assert {row.status for row in manifest.read(elsewhere).rows.values()} == {"completed"}
    assert done.keys() == {
        path.relative_to(elsewhere.root)
        for path in elsewhere.root.rglob("seed*[0-9]/result.json")
        if ".aside-" not in str(path)
    }
    assert {path: path.read_bytes() for path in original} == original, "the original is as it was"


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


def _emptied(result: Path) -> None:
    result.write_bytes(b"")


def _made_a_folder(result: Path) -> None:
    result.unlink()
    result.mkdir()


@pytest.mark.parametrize("damage", [Path.unlink, _emptied, _made_a_folder])
def test_a_finished_suite_without_a_whole_result_runs_that_one_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    asked, launcher, notes = request(tmp_path / "results"), StandIn(), Notes()
    control(launcher).run(asked, Policy())
    (suite_id, *_) = manifest.read(asked.paths).rows
    damage(asked.paths.run(suite_id, "blocking", 1337).result)
    again = StandIn()
    assert control(again, notes).resume(asked.paths, Policy()) == 0
    assert again.started == ["early/blocking"]
    assert any(line.startswith(f"warning: {suite_id}: completed, but ") for line in notes.told)
    assert manifest.read(asked.paths).counts["completed"] == 2


def test_a_suites_folder_that_is_a_link_to_itself_is_told_with_what_to_do(tmp_path: Path) -> None:
    asked = request(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    (suite_id, *_) = manifest.read(asked.paths).rows
    suite = asked.paths.root / "suites" / suite_id
    shutil.rmtree(suite)
    suite.symlink_to(suite_id)
    with raises("ECRL-504", suite_id, "link", "ecrl matrix resume --prefix exp"):
        control(StandIn()).resume(asked.paths, Policy())
    suite.unlink()
    again = StandIn()
    assert control(again).resume(asked.paths, Policy()) == 0
    assert len(again.started) == 3
