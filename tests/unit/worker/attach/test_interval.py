"""When a job without a campaign takes its checkpoints, if it is to find that out itself."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch._C._distributed_c10d import HashStore

import ecrl
from ecrl.checkpoint.agreement import Agreement
from ecrl.storage import commit
from ecrl.worker.attach import interval
from ecrl.worker.attach.interval import AgreedInterval, Automatic, Continuous, Rule
from tests.errors import raises


class Machine:
    """A job on a clock of its own.

    Quiet steps take `step_s`. A checkpoint takes `stall_s` at once, makes steps slower by `slower_s`, and is durable
    `lasts` steps later. done: the steps whose checkpoints were taken.
    """

    def __init__(self, rule: Rule, *, step_s: float, stall_s: float, slower_s: float, lasts: int) -> None:
        self.rule, self.step_s, self.stall_s, self.slower_s, self.lasts = rule, step_s, stall_s, slower_s, lasts
        self.now_s, self.done, self.settled = 0.0, list[int](), 0

    def train(self, steps: int) -> None:
        wanted = self.rule.wants_next(0, 0, 0)
        for step in range(1, steps + 1):
            newest = self.done[-1] if self.done else 0
            in_flight = newest > self.settled
            self.now_s += self.step_s + (self.slower_s if in_flight else 0.0)
            if in_flight and step - newest >= self.lasts:
                self.settled = newest
            due = wanted
            wanted = self.rule.wants_next(step, step if due else newest, self.settled)
            if due:
                self.done.append(step)
                self.now_s += self.stall_s


def test_automatic_measures_and_then_keeps_the_interval_that_pays() -> None:
    rule = Automatic(mtbf_s=3600.0, get_time=lambda: machine.now_s)
    machine = Machine(rule, step_s=0.1, stall_s=0.2, slower_s=0.05, lasts=4)
    machine.train(4000)
    cost_s = 0.2 + 4 * 0.05
    expected = math.sqrt(2 * cost_s * 3600.0) / 0.1
    gaps = [after - before for before, after in zip(machine.done, machine.done[1:], strict=False)]
    assert machine.done[0] <= 2 * interval._QUIET_STEPS
    assert max(gaps[: interval._MEASURED - 1]) <= 10
    assert gaps[interval._MEASURED :] == [pytest.approx(expected, rel=0.02)] * (len(gaps) - interval._MEASURED)
    assert len(gaps) > interval._MEASURED + 3


def test_automatic_never_has_two_checkpoints_in_flight_however_often_failures_come() -> None:
    rule = Automatic(mtbf_s=0.001, get_time=lambda: machine.now_s)
    machine = Machine(rule, step_s=0.1, stall_s=0.0, slower_s=0.05, lasts=7)
    machine.train(500)
    assert min(b - a for a, b in zip(machine.done, machine.done[1:], strict=False)) > 7


def test_continuous_takes_the_next_when_the_last_is_durable() -> None:
    machine = Machine(Continuous(), step_s=0.1, stall_s=0.0, slower_s=0.0, lasts=3)
    machine.train(20)
    assert machine.done == [1, 5, 9, 13, 17]


def test_every_rank_gets_the_decisions_of_rank_0_and_old_ones_are_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interval, "_KEPT_TOPICS", 5)
    store: Any = HashStore()
    engine: Any = SimpleNamespace()

    class EveryThird:
        def wants_next(self, step: int, newest: int, settled: int) -> bool:
            return (step + 1) % 3 == 0

    def follow(rank: int) -> list[int]:
        agreement = Agreement(store, rank, 2, 20.0)
        asked = AgreedInterval(engine, agreement, EveryThird(), lambda: 0)
        asked.begin(4)
        due = []
        for step in range(5, 31):
            if asked.is_due(step):
                due.append(step)
                asked.note_save(step)
            agreement.exchange(f"step/{step}", None)  # as a step's collectives do
        return due

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(follow, range(2)))
    assert found == [list(range(6, 31, 3))] * 2
    assert not store.check(["due/10/0"])
    assert store.check(["due/30/0"])


@pytest.mark.parametrize("engine", ["blocking", "overlapped"])
def test_a_job_without_an_interval_checkpoints_all_the_time(engine: str, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    saved = []
    job = ecrl.attach(model, optimizer, steps=12, root=tmp_path, engine=engine, every="continuous", keep=100)
    for _ in job:
        torch.autograd.backward(model(torch.ones(1, 2)).sum())
        optimizer.step()
        saved.append(job.step)
    steps = commit.list_committed_steps(tmp_path)
    assert steps[0] == 1
    assert steps[-1] == 12
    if engine == "blocking":
        assert steps == [1, 3, 5, 7, 9, 11, 12]


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ({"every": "sometimes"}, ("every: ", "'sometimes'", "'auto'", "'continuous'")),
        ({"every": 0}, ("every: ", "found 0")),
        ({"every": "auto"}, ("mtbf: ", "None")),
        ({"every": "auto", "mtbf": 0.0}, ("mtbf: ", "0.0")),
        ({"every": 10, "mtbf": 60.0}, ("mtbf: ", "60.0")),
    ],
)
def test_an_interval_that_cannot_be_is_refused(given: dict[str, Any], facts: tuple[str, ...], tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    with raises("ECRL-650", *facts):
        ecrl.attach(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=2, root=tmp_path, **given)
