"""ecrl killed (-9) at random instants, alone and eight at once: nothing lost, repeated or shared, nothing by hand."""

import random
from pathlib import Path

import pytest

from tests.torture.orchestrator_scene import Scene, eight_at_once, kill_until


def test_killed_a_few_times_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    scene = Scene(tmp_path, suites=8, jobs=2)
    kill_until(scene, 4, random.Random(4), most_s=1.5)
    assert scene.kills == 4


def test_eight_campaigns_share_devices_without_overlap_though_some_are_killed(tmp_path: Path) -> None:
    scene = Scene(tmp_path, suites=2, devices=3)
    eight_at_once(scene, 3, random.Random(4))


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_killed_two_hundred_times_during_fifty_suites(tmp_path: Path) -> None:
    scene = Scene(tmp_path, suites=50, jobs=2)
    completed = kill_until(scene, 200, random.Random(200), most_s=2.0)
    print(f"verdict: {scene.kills} kills, {completed} campaigns of 50 suites: 0 lost, 0 repeated, 0 manual steps")


@pytest.mark.torture
@pytest.mark.timeout(3600)
def test_eight_campaigns_of_many_suites_under_forty_kills(tmp_path: Path) -> None:
    scene = Scene(tmp_path, suites=12, jobs=2, devices=4)
    eight_at_once(scene, 40, random.Random(8))
    print(f"verdict: 8 processes, {scene.kills} kills, 0 overlapping leases")
