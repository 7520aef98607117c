"""Every two variants are compared, and their p values are adjusted together."""

import pytest

from ecrl.analysis.run.metrics import empty_row
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.pairwise import adjust_holm, compare_pairs


def test_holm_multiplies_by_the_hypotheses_that_are_left_and_never_falls() -> None:
    assert adjust_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjust_holm([0.5, 0.9]) == [1.0, 1.0]
    assert adjust_holm([0.01, None]) == [0.02, None]
    assert adjust_holm([]) == []


def test_every_later_variant_is_compared_with_every_earlier_one() -> None:
    ratios = {"x": 1.0, "y": 1.1, "z": 1.1}
    rows = [
        empty_row(suite_id="s", seed=seed, variant=v, wall_s=10 * ratio * (1 + 0.001 * seed * len(v)))
        for seed in range(8)
        for v, ratio in ratios.items()
    ]

    def one(a: str, b: str) -> Comparison:
        return compare(rows, a, b, "wall_s", "ratio", {})

    found = compare_pairs(tuple(ratios), one)
    assert set(found) == {("y", "x"), ("z", "x"), ("z", "y")}
    assert all((c.a, c.b) == pair for pair, (c, _) in found.items())
    assert found["y", "x"][1] == pytest.approx(3 * 2**-7)
    assert found["z", "y"][1] == 1.0
