"""`--rerun`: what is set aside is what runs again, and only once nothing can keep it from running."""

import dataclasses
import signal
from pathlib import Path

import pytest

from ecrl.config.matrix import Matrix
from ecrl.errors import EcrlError
from ecrl.experiments.training.probe import Probe
from ecrl.experiments.training.run import Ask
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.selection import Selection, parse_terms
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest import store as manifest
from ecrl.records.paths import CampaignPaths
from tests.errors import raises
from tests.unit.launch.stand_in import StandIn, answer, control, request


@pytest.fixture
def paths(tmp_path: Path) -> CampaignPaths:
    asked = request(tmp_path / "results")
    control(StandIn()).run(asked, Policy())
    return asked.paths


def rerun(*names: str, only: str = "status=completed", limit: int | None = None) -> Policy:
    return Policy(selection=Selection(parse_terms(only), limit, rerun=names))


def set_aside(paths: CampaignPaths) -> set[str]:
    """Failure labels of the suites that have runs set aside."""
    rows = manifest.read(paths).rows
    return {rows[path.parents[1].name].failure_label for path in paths.suites.rglob("*.aside-*")}


@pytest.mark.parametrize("policy", [rerun("early", "late", only="failure=late"), rerun("late", "early", limit=1)])
def test_only_what_is_also_chosen_is_set_aside_and_runs(paths: CampaignPaths, policy: Policy) -> None:
    launcher = StandIn()
    assert control(launcher).resume(paths, policy) == 0
    ran = {name.partition("/")[0] for name in launcher.started}
    assert ran == set_aside(paths)
    assert len(ran) == 1
    assert len(launcher.started) == 3


def test_nothing_chosen_is_an_error_and_sets_nothing_aside(paths: CampaignPaths) -> None:
    policy = rerun("early", only="failure=late")
    for go in (
        lambda: control(StandIn()).resume(paths, policy),
        lambda: control(StandIn()).run(request(paths.results), policy),
        lambda: control(StandIn()).preview(request(paths.results), policy),
    ):
        with raises("ECRL-321", "--rerun: ", "-early-", "'failure=late'"):
            go()
    assert set_aside(paths) == set()
    assert manifest.read(paths).counts["completed"] == 2


def test_run_chooses_by_the_states_that_the_manifest_has(paths: CampaignPaths) -> None:
    launcher = StandIn()
    assert control(launcher).run(request(paths.results), rerun("late")) == 0
    assert set_aside(paths) == {"late"}
    assert len(launcher.started) == 3


def _no_data(_matrix: Matrix, _stop: StopRequest, _look: object) -> Probe:
    raise EcrlError("ECRL-506", "cifar10: not found")


def _stopped(matrix: Matrix, stop: StopRequest, _look: object) -> Probe:
    stop.request(signal.SIGINT)
    return answer(matrix)


@pytest.mark.parametrize(("ask", "code"), [(_no_data, "ECRL-506"), (_stopped, "ECRL-312")])
def test_a_check_that_fails_or_is_interrupted_leaves_every_result_where_it_is(
    paths: CampaignPaths, ask: Ask, code: str
) -> None:
    way_in = control(StandIn(), ask=ask)
    with raises(code):
        way_in.resume(paths, rerun("late"))
    assert set_aside(paths) == set()
    assert manifest.read(paths).counts["completed"] == 2


def test_an_unfit_machine_leaves_every_result_where_it_is(paths: CampaignPaths) -> None:
    def unfit(*_: object) -> list[object]:
        raise EcrlError("ECRL-506", "/dev/shm: too small")

    way_in: Control = dataclasses.replace(control(StandIn()), examine=unfit)  # type: ignore[arg-type]
    with raises("ECRL-506", "too small"):
        way_in.resume(paths, rerun("late"))
    assert set_aside(paths) == set()
    assert manifest.read(paths).counts["completed"] == 2
