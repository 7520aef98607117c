"""Interaction and leverage, against an enumeration that knows nothing of the implementation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.interaction import (
    Interaction,
    compute_equal_effects_p,
    find_interactions,
    find_leverage,
)


def rows_of(effects: dict[str, float], **factors: list[str]) -> list[Row]:
    """Blocking at 1 step/s and overlapped at these ratios. factors: the values of each suite, in order."""
    return [
        empty_row(
            suite_id=suite_id, variant=variant, seed=1, goodput_steps_per_s=goodput,
            **{name: values[place] for name, values in factors.items()},
        )
        for place, (suite_id, ratio) in enumerate(effects.items())
        for variant, goodput in (("blocking", 1.0), ("overlapped", ratio))
    ]  # fmt: skip


def compared(rows: list[Row]) -> Comparison:
    return compare(rows, "overlapped", "blocking", "goodput_steps_per_s", "ratio", {})


def interactions(rows: list[Row], *factors: str) -> list[Interaction]:
    return find_interactions(compared(rows), {row["suite_id"]: row for row in rows}, factors)


@pytest.mark.parametrize("sizes", [(3, 3), (1, 4), (2, 2, 2), (1, 2, 3)])
def test_the_p_is_that_of_all_labellings(sizes: tuple[int, ...]) -> None:
    values = list(np.random.default_rng(sum(sizes)).normal(5, 1, sum(sizes)))

    def compute_f(order: tuple[float, ...]) -> float:
        parts = [order[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
        center = sum(order) / len(order)
        between = sum(len(part) * (sum(part) / len(part) - center) ** 2 for part in parts)
        within = sum((x - sum(part) / len(part)) ** 2 for part in parts for x in part)
        return between / within

    observed = compute_f(tuple(values))
    every = [compute_f(order) for order in itertools.permutations(values)]
    groups = [values[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    p, exact = compute_equal_effects_p(groups)
    assert exact
    assert p == pytest.approx(sum(f >= observed * (1 - 1e-9) for f in every) / len(every))


def test_many_suites_are_sampled_and_agree_with_the_f_distribution() -> None:
    draw = np.random.default_rng(3)
    groups = [list(draw.normal(mean, 1, 40)) for mean in (0.0, 0.35)]
    p, exact = compute_equal_effects_p(groups)
    assert not exact
    assert p == pytest.approx(float(stats.f_oneway(*groups).pvalue), abs=0.02)
    assert compute_equal_effects_p(groups) == (p, exact)


def test_opposite_effects_of_two_models_are_an_interaction_and_equal_ones_are_none() -> None:
    models = ["resnet18"] * 6 + ["resnet50"] * 6
    sets = ["a", "b"] * 6
    rows = rows_of({f"s{i}": (1.10 if i < 6 else 0.92) + i / 1e4 for i in range(12)}, model=models, dataset=sets)
    model, dataset = interactions(rows, "model", "dataset")
    assert model.p == pytest.approx(2 / math.comb(12, 6))
    assert model.p_adjusted == pytest.approx(2 * model.p)
    assert model.is_shown
    assert model.has_both_signs
    assert math.exp(model.means["resnet18"]) == pytest.approx(1.10, abs=1e-3)
    assert not dataset.is_shown
    assert dataset.p > 0.5


def test_a_factor_needs_several_values_and_suites_that_share_one() -> None:
    rows = rows_of({"s0": 1.1, "s1": 1.2, "s2": 1.3}, model=["m"] * 3, dataset=["a", "b", "c"])
    assert interactions(rows, "model", "dataset") == []
    assert interactions(rows[:2], "model") == []


def test_one_suite_that_carries_the_effect_is_found_with_the_effect_of_the_others() -> None:
    effects = {f"f{i}": 0.995 + i / 1e4 - 3e-4 for i in range(7)} | {"f7": 2.0}
    found = find_leverage(compared(rows_of(effects)))
    assert found is not None
    assert found.suite_id == "f7"
    assert round(math.exp(found.without), 3) == 0.995
    assert found.low < found.without < found.high < 0
    assert math.exp(found.center) > 1.08


@pytest.mark.parametrize(
    "ratios",
    [
        [1.10, 1.11, 1.12, 1.09, 1.10],  # none carries it
        [1.01, 0.99, 1.02, 0.98, 1.005],  # around no effect every suite turns the sign, and none stands out
        [2.0, 0.99, 0.99],  # too few others
    ],
)
def test_suites_that_do_not_stand_out_are_not_named(ratios: list[float]) -> None:
    assert find_leverage(compared(rows_of({f"s{i}": ratio for i, ratio in enumerate(ratios)}))) is None
