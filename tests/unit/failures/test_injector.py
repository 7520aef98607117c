"""Planned failures strike in order, once each, on their rank, in their phase or at their instant."""

import os
import signal
import subprocess
from collections.abc import Sequence

import pytest

from ecrl import plugins
from ecrl.failures.base import FailureKind
from ecrl.failures.injector import AttemptContext, Injector, PlannedFailure, read_plan
from ecrl.failures.kinds.kill import Kill

PLAN = [
    {"index": 0, "at": 9, "kind": "kill", "rank": 0},
    {"index": 1, "at": 7, "kind": "kill", "rank": 1},
    {"index": 2, "at": 12, "kind": "kill", "rank": 0},
]


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Stand in for the one act that would end the test process."""
    strikes: list[tuple[str, list[int]]] = []

    def stand_in(name: str, peers: Sequence[int]) -> None:
        strikes.append((name, list(peers)))

    for name in plugins.names("failure kind"):
        plugin = plugins.load("failure kind", name)
        monkeypatch.setattr(plugin, "strike", lambda peers, name=name: stand_in(name, peers))
    return strikes


class Told(AttemptContext):
    """What a test tells: the group's processes, and a first step that began at 1 s."""

    def __init__(self) -> None:
        self.asked = 0

    def get_pids(self, ranks: str | list[int]) -> list[int]:
        return [11, 12] if isinstance(ranks, str) else [10 + rank for rank in ranks if rank]

    def get_first_step_ns(self) -> int | None:
        self.asked += 1
        return 1_000_000_000


def lives(rank: int, already_fired: list[int], steps: range) -> list[PlannedFailure]:
    announced: list[PlannedFailure] = []
    injector = Injector(read_plan(PLAN), rank, already_fired, lambda failure, _: announced.append(failure))
    for step in steps:
        injector.after_step(step)
        injector.on_phase("persist", step)
    return announced


def armed(**planned: object) -> tuple[Injector, list[int]]:
    """An injector for one failure of rank 0, and the steps at which it struck."""
    steps: list[int] = []
    plan = read_plan([{"index": 0, "kind": "kill", "rank": 0} | planned])
    return Injector(plan, 0, [], lambda _, step: steps.append(step), Told(), clock=lambda: NOW[0]), steps


NOW = [0]


@pytest.mark.usefixtures("struck")
def test_a_failure_is_armed_only_after_those_before_it_have_struck() -> None:
    assert [f.at for f in lives(0, [], range(1, 20))] == [9]
    assert lives(1, [], range(1, 20)) == []  # 7 comes after 9 in the plan: it strikes in the replay
    assert [f.at for f in lives(1, [0], range(6, 20))] == [7]
    assert [f.at for f in lives(0, [0, 1], range(6, 20))] == [12]


@pytest.mark.usefixtures("struck")
def test_a_failure_that_struck_never_strikes_again() -> None:
    assert lives(0, [0, 1, 2], range(1, 20)) == []


def test_the_failure_is_announced_before_it_strikes(struck: list[tuple[str, list[int]]]) -> None:
    order: list[object] = []
    injector = Injector(read_plan(PLAN[:1]), 0, [], lambda *_: order.extend(["announced", *struck]))
    injector.after_step(9)
    assert order == ["announced"]
    assert struck == [("kill", [])]


def test_a_failure_after_a_step_waits_until_the_device_has_done_it(struck: list[tuple[str, list[int]]]) -> None:
    order: list[object] = []
    injector = Injector(
        read_plan(PLAN[:1]), 0, [], lambda *_: order.append("announced"),
        complete=lambda: order.extend(["completed", *struck]),
    )  # fmt: skip
    injector.after_step(8)
    assert order == []  # no other step waits
    injector.after_step(9)
    assert order == ["completed", "announced"]


@pytest.mark.usefixtures("struck")
def test_a_phase_strikes_only_in_itself_and_only_in_the_checkpoint_it_is_planned_for() -> None:
    injector, steps = armed(at=10, phase="persist")
    for step in (5, 10, 15):
        injector.after_step(step)
        injector.on_phase("staging", step)
    injector.on_phase("persist", 5)
    assert steps == []
    injector.on_phase("persist", 10)
    injector.on_phase("persist", 10)
    assert steps == [10]


@pytest.mark.usefixtures("struck")
@pytest.mark.parametrize("phase", ["restore", "init"])
def test_a_restart_is_struck_whatever_step_it_goes_on_from(phase: str) -> None:
    injector, steps = armed(at=10, phase=phase)
    injector.on_phase(phase, 4)
    assert steps == [4]


@pytest.mark.usefixtures("struck")
def test_an_instant_strikes_at_the_first_step_that_ends_after_it() -> None:
    injector, steps = armed(after_s=2.5)
    for step, now in enumerate((2_000_000_000, 3_499_999_999, 3_500_000_000, 4_000_000_000), start=1):
        NOW[0] = now
        injector.after_step(step)
    assert steps == [3]


def test_the_whole_group_is_struck_by_the_rank_whose_turn_it_is(struck: list[tuple[str, list[int]]]) -> None:
    for ranks in ("all", [0, 2]):
        injector, _ = armed(at=3, ranks=ranks)
        injector.after_step(3)
    assert struck == [("kill", [11, 12]), ("kill", [12])]


def test_kill_takes_the_peers_first_and_passes_over_those_that_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    alive = subprocess.Popen(["sleep", "60"])
    killed: list[int] = []
    kill = os.kill

    def spare_the_test(pid: int, number: int) -> None:
        killed.append(pid)
        if pid != os.getpid():
            kill(pid, number)

    monkeypatch.setattr(os, "kill", spare_the_test)
    Kill().strike([gone.pid, alive.pid])
    assert alive.wait() == -signal.SIGKILL
    assert killed == [gone.pid, alive.pid, os.getpid()]


@pytest.mark.parametrize("name", plugins.names("failure kind"))
def test_every_kind_is_a_failure_kind_with_a_description(name: str) -> None:
    kind = plugins.load("failure kind", name)
    assert isinstance(kind, FailureKind)
    assert kind.description
