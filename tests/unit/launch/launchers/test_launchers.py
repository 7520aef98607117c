"""Every launcher of the folder, and the choice among them for each run."""

from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.launch.campaign.request import resolve_request
from ecrl.launch.runs.launcher import LauncherPlugin, LauncherPool, load_launcher
from ecrl.launch.system.device_leases import DeviceSet, Lease
from tests.errors import raises
from tests.unit.launch.stand_in import MATRIX, request

CAPABILITIES = {"leases_devices", "forks_warm", "serves_many_runs", "is_local"}


@pytest.mark.parametrize("name", plugins.names("launcher"))
def test_what_a_launcher_says_of_itself_is_read_without_importing_it(name: str) -> None:
    plugin: LauncherPlugin = plugins.load("launcher", name)
    said = plugins.declared("launcher", name)
    assert said == {field: getattr(plugin, field) for field in {"description", *CAPABILITIES}}
    assert {type(said[capability]) for capability in CAPABILITIES} == {bool}


@pytest.mark.parametrize("name", plugins.names("launcher"))
def test_a_launcher_keeps_to_its_lease_and_may_be_closed_without_a_run(name: str) -> None:
    lease = Lease(DeviceSet(("fake-0",)), Path("/leases"))
    launcher = load_launcher(name, lease)
    assert launcher.lease is lease
    launcher.close()
    launcher.close()


def test_every_run_is_started_by_the_launcher_it_asks_for_and_each_is_made_once(tmp_path: Path) -> None:
    text = MATRIX.replace("checkpoint_every", 'launchers = ["cold", "warm"]\ncheckpoint_every')
    campaign = resolve_request(request(tmp_path / "results", text=text)).campaign
    pool = LauncherPool(None)
    made = {
        run.spec.train.launcher: pool.get_launcher(run) for suite in campaign.suites for run in campaign.runs(suite)
    }
    assert {name: type(launcher).__name__ for name, launcher in made.items()} == {"cold": "Cold", "warm": "Warm"}
    for suite in campaign.suites:
        assert {pool.get_launcher(run) for run in campaign.runs(suite)} == {made[suite.train.launcher]}
    pool.close()


def test_an_unknown_launcher_is_named_with_those_there_are() -> None:
    with raises("ECRL-291", "'hot'", "cold, warm"):
        load_launcher("hot")
