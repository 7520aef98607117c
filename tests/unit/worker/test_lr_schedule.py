"""The learning rate is a function of the step: warm-up to the peak, then down."""

import dataclasses

import pytest

from ecrl.config.train import TrainSettings
from ecrl.worker.lr_schedule import learning_rate

BASE = TrainSettings(steps=100, lr=0.2, warmup_steps=10)


def test_warm_up_is_linear_and_ends_at_the_peak() -> None:
    assert [learning_rate(s, BASE) for s in (1, 5, 10, 11)] == pytest.approx([0.02, 0.1, 0.2, 0.2])


@pytest.mark.parametrize(
    ("schedule", "middle", "last"), [("constant", 0.2, 0.2), ("linear", 0.1, 0.2 / 90), ("cosine", 0.1, 0.2 * 0.000305)]
)
def test_schedules(schedule: str, middle: float, last: float) -> None:
    settings = dataclasses.replace(BASE, schedule=schedule)  # type: ignore[arg-type]
    assert learning_rate(56, settings) == pytest.approx(middle, rel=1e-3)
    assert learning_rate(100, settings) == pytest.approx(last, rel=1e-2)


def test_without_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert learning_rate(1, dataclasses.replace(BASE, warmup_steps=0)) == BASE.lr
    assert learning_rate(1, TrainSettings(steps=1, lr=0.3)) == 0.3
