"""When a wait is spoken of."""

import time

import pytest

from ecrl.launch.system import wait
from ecrl.launch.system.wait import Reminder, Wait


def test_a_wait_is_spoken_of_often_in_its_first_minute_then_as_often_as_it_doubles_and_a_new_one_anew() -> None:
    reminder = Reminder()
    assert [s for s in range(1000) if reminder.is_due(float(s))] == [8, 16, 24, 32, 40, 48, 56, 112, 224, 448, 896]
    assert reminder.has_spoken
    assert not reminder.is_due(1.0)
    assert not reminder.has_spoken
    assert reminder.is_due(9.0)


def test_a_wait_says_what_it_is_for_and_how_long_it_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now, said = [100.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    waits = Wait(lambda: f"bread, at {now[0]:.0f}", said.append, first_s=3.0)
    for now[0] in (102.0, 103.5, 104.0, 107.0):
        waits.look()
    assert said == [
        "waiting for bread, at 104 (for 3.50 s so far)",
        "waiting for bread, at 107 (for 7.00 s so far)",
    ]


def test_a_computation_that_takes_long_is_spoken_of_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait, "_LOOK_S", 0.01)
    monkeypatch.setattr(wait, "_OFTEN_S", 0.0)
    said: list[str] = []
    with wait.keep_saying("the sum", said.append, first_s=0.05):
        time.sleep(0.3)
    assert said[0].startswith("waiting for the sum (for ")
    number = len(said)
    time.sleep(0.1)
    assert len(said) == number
