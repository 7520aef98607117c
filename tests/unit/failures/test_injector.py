"""Planned failures strike in order, once each, on their rank, in their phase or at their instant."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ecrl import plugins
from ecrl.failures.base import FailureKind, Strike
from ecrl.failures.injector import AttemptContext, Injector, NoFailures, PlannedFailure, read_plan
from ecrl.failures.kinds.kill import Kill
from ecrl.records.failure_checks import PHASES
from tests.failure_kinds import EVERYWHERE
from tests.plugin_folder import added_member

PLAN = [
    {"index": 0, "at": 9, "kind": "kill", "rank": 0},
    {"index": 1, "at": 7, "kind": "kill", "rank": 1},
    {"index": 2, "at": 12, "kind": "kill", "rank": 0},
]
KINDS = plugins.names("failure kind")


@pytest.fixture
def struck(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[int]]]:
    """Stand in for the one act that would end the test process."""
    strikes: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(Kill, "on_phase", lambda _, strike: strikes.append(("kill", list(strike.peers))))
    return strikes


@pytest.fixture
def everywhere(tmp_path: Path) -> Iterator[list[Strike]]:
    """The strikes of a kind that has every phase and ends no attempt."""
    with added_member(tmp_path, "failure kind", "everywhere", EVERYWHERE):
        plugins.load("failure kind", "everywhere")
        yield sys.modules["ecrl.failures.kinds.everywhere"].SEEN


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


def train(injector: Injector, steps: range) -> list[float]:
    """The places of a loop, in order; returns the losses."""
    model, losses = torch.nn.Linear(1, 1), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in steps:
        losses.append(float(injector.on_loss(step, torch.tensor(float(step)))))
        injector.on_gradients(step, model)
        injector.on_update(step, model, optimizer)
        injector.after_step(step)
    return losses


def build_everywhere_plan(*places: tuple[int, str, int, bool]) -> tuple[PlannedFailure, ...]:
    entries = [
        {"index": i, "kind": "everywhere", "at": at, "phase": phase, "rank": rank, "ends_attempt": ends}
        for i, (at, phase, rank, ends) in enumerate(places)
    ]
    return read_plan(entries)


def test_failures_that_end_no_attempt_strike_one_after_the_other_up_to_the_one_that_does(
    everywhere: list[Strike],
) -> None:
    plan = build_everywhere_plan(
        (2, "loss", 0, False), (2, "gradients", 1, False), (2, "update", 0, False), (3, "step", 0, False),
        (4, "loss", 0, False), (4, "loss", 0, False), (5, "step", 0, True), (3, "loss", 0, False),
    )  # fmt: skip
    announced: list[tuple[int, int]] = []
    injector = Injector(plan, 0, [], lambda failure, step: announced.append((failure.index, step)))
    assert train(injector, range(1, 8)) == [1, 3, 3, 6, 5, 6, 7]
    assert announced == [(0, 2), (2, 2), (3, 3), (4, 4), (5, 4), (6, 5)]
    assert [(s.step, s.phase) for s in everywhere] == [
        (2, "loss"), (2, "update"), (3, "step"), (4, "loss"), (4, "loss"), (5, "step")
    ]  # fmt: skip
    # the attempt that follows: what struck is over, what stood behind the end of the attempt is armed
    injector = Injector(plan, 0, [0, 1, 2, 3, 4, 5, 6], lambda failure, step: announced.append((failure.index, step)))
    assert train(injector, range(2, 5)) == [2, 4, 4]
    assert announced[6:] == [(7, 3)]


def test_a_kind_is_given_all_its_options_those_that_the_plan_lacks_at_their_legacy_values(
    everywhere: list[Strike],
) -> None:
    for options in ({}, {"note": "new"}):
        plan = read_plan([{"index": 0, "kind": "everywhere", "at": 1, "rank": 0, "options": options}])
        Injector(plan, 0, [], lambda *_: None).after_step(1)
    assert [strike.options for strike in everywhere] == [{"note": "old"}, {"note": "new"}]


def test_without_a_plan_nothing_happens() -> None:
    assert train(NoFailures(), range(1, 4)) == [1, 2, 3]


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
    plugins.load("failure kind", "kill").on_phase(Strike(3, "step", {}, [gone.pid, alive.pid]))
    assert alive.wait() == -signal.SIGKILL
    assert killed == [gone.pid, alive.pid, os.getpid()]


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_says_in_literals_all_that_is_known_of_it_and_has_a_hook_for_each_of_its_phases(name: str) -> None:
    kind: Any = plugins.load("failure kind", name)
    assert isinstance(kind, FailureKind)
    assert dict(plugins.declared("failure kind", name)) | {"options": kind.options} == vars(kind)
    assert kind.description
    assert kind.phases
    assert set(kind.phases) <= set(PHASES)
    hooks = {kind.get_hook_name(phase) for phase in kind.phases}
    assert {hook for hook in FailureKind.__dict__ if hook.startswith("on_") and hook in type(kind).__dict__} == hooks


@pytest.mark.parametrize("name", KINDS)
def test_no_option_of_a_kind_has_the_name_of_a_key_that_every_failure_has(name: str) -> None:
    from ecrl.config.failure_entry import FailureEntry

    assert not set(plugins.load("failure kind", name).options) & FailureEntry.model_fields.keys()


def test_importing_every_kind_imports_no_torch() -> None:
    program = (
        "import sys; from ecrl import plugins; import ecrl.failures.injector\n"
        "[plugins.load('failure kind', name) for name in plugins.names('failure kind')]\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True, timeout=50).strip() == "False"
