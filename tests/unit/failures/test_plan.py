"""Planned failures strike in order, once each, on their rank."""

import pytest

from ecrl import plugins
from ecrl.failures.plan import FailureKind, Injector, PlannedFailure, read_plan

PLAN = [
    {"index": 0, "at": 9, "kind": "kill", "rank": 0},
    {"index": 1, "at": 7, "kind": "kill", "rank": 1},
    {"index": 2, "at": 12, "kind": "kill", "rank": 0},
]


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stand in for the one act that would end the test process."""
    strikes: list[str] = []
    for name in plugins.names("failure kind"):
        monkeypatch.setattr(plugins.load("failure kind", name), "strike", lambda name=name: strikes.append(name))
    return strikes


def lives(rank: int, already_fired: list[int], steps: range) -> list[PlannedFailure]:
    announced: list[PlannedFailure] = []
    injector = Injector(read_plan(PLAN), rank, already_fired, announced.append)
    for step in steps:
        injector.after_step(step)
    return announced


@pytest.mark.usefixtures("struck")
def test_a_failure_is_armed_only_after_those_before_it_have_struck() -> None:
    assert [f.at for f in lives(0, [], range(1, 20))] == [9]
    assert lives(1, [], range(1, 20)) == []  # 7 comes after 9 in the plan: it strikes in the replay
    assert [f.at for f in lives(1, [0], range(6, 20))] == [7]
    assert [f.at for f in lives(0, [0, 1], range(6, 20))] == [12]


@pytest.mark.usefixtures("struck")
def test_a_failure_that_struck_never_strikes_again() -> None:
    assert lives(0, [0, 1, 2], range(1, 20)) == []


def test_the_failure_is_announced_before_it_strikes(struck: list[str]) -> None:
    order: list[str] = []
    injector = Injector(read_plan(PLAN[:1]), 0, [], lambda _: order.extend(["announced", *struck]))
    injector.after_step(9)
    assert order == ["announced"]
    assert struck == ["kill"]


@pytest.mark.parametrize("name", plugins.names("failure kind"))
def test_every_kind_is_a_failure_kind_with_a_description(name: str) -> None:
    kind = plugins.load("failure kind", name)
    assert isinstance(kind, FailureKind)
    assert kind.description
