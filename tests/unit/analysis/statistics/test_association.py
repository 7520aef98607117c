import itertools

import numpy as np
import pytest
from scipy import stats

from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.association import SuiteModel, rank_correlation, suite_model
from ecrl.analysis.statistics.compare import Comparison, compare


def test_the_exact_p_of_spearman_counts_every_pairing() -> None:
    x, y = [3.0, 1.0, 4.0, 1.5, 9.0], [2.0, 7.0, 1.0, 8.0, 0.5]
    found = rank_correlation(x, y)
    assert found is not None
    rho = stats.spearmanr(x, y).statistic
    all_rho = [stats.spearmanr(x, list(order)).statistic for order in itertools.permutations(y)]
    assert (found.n, found.exact) == (5, True)
    assert found.rho == pytest.approx(rho)
    # scipy's two-sided p: twice the smaller tail
    tails = [sum(one <= rho + 1e-9 for one in all_rho), sum(one >= rho - 1e-9 for one in all_rho)]
    assert found.p == pytest.approx(min(1.0, 2 * min(tails) / len(all_rho)))


def test_more_points_take_the_approximation_and_too_few_or_equal_ones_give_nothing() -> None:
    x = [float(i) for i in range(12)]
    found = rank_correlation(x, [v * v for v in x])
    assert found is not None
    assert found.rho == pytest.approx(1.0)
    assert not found.exact
    assert rank_correlation(x[:4], x[:4]) is None
    assert rank_correlation(x, [1.0] * 12) is None


def compared(effects: dict[str, list[float]]) -> Comparison:
    rows: list[Row] = []
    for suite, own in effects.items():
        for seed, d in enumerate(own):
            rows += [
                empty_row(suite_id=suite, seed=seed, variant="blocking", goodput_steps_per_s=10.0),
                empty_row(suite_id=suite, seed=seed, variant="overlapped", goodput_steps_per_s=10.0 * float(np.exp(d))),
            ]
    return compare(rows, "overlapped", "blocking", "goodput_steps_per_s", "ratio", {})


def test_the_model_tells_the_spread_between_suites_from_the_spread_within() -> None:
    rng = np.random.default_rng(3)
    found = suite_model(
        compared({f"s{i}": list(shift + rng.normal(0, 0.01, 6)) for i, shift in enumerate(rng.normal(0.03, 0.05, 40))})
    )
    assert isinstance(found, SuiteModel)
    assert found.df == 39
    assert found.low < 1.03 < found.high
    assert found.low < found.center < found.high
    assert found.between_sd == pytest.approx(0.05, rel=0.4)
    assert found.within_sd == pytest.approx(0.01, rel=0.2)


def test_the_interval_of_three_suites_covers_what_it_says() -> None:
    rng, hits, fits = np.random.default_rng(7), 0, 0
    for _ in range(80):
        shifts = rng.normal(0.0, 0.02, 3)
        found = suite_model(compared({f"s{i}": list(shift + rng.normal(0, 0.01, 3)) for i, shift in enumerate(shifts)}))
        if isinstance(found, SuiteModel):
            fits, hits = fits + 1, hits + (found.low <= 1 <= found.high)
    assert fits > 60
    assert hits / fits > 0.9  # with the normal quantile 81 to 84 %


def test_a_spread_between_suites_that_comes_out_as_none_is_at_the_boundary() -> None:
    """The suite means are equal, so that within-suite noise explains more than all of their spread."""
    found = compared(
        {f"s{i}": [0.01 + shift, 0.02 + shift, 0.03 - 2 * shift] for i, shift in enumerate((0, 0.001, 0.002))}
    )
    assert suite_model(found) == "at the boundary"


def test_without_enough_suites_seeds_or_spread_there_is_no_model() -> None:
    assert suite_model(compared({"a": [0.1, 0.2, 0.3], "b": [0.1, 0.2, 0.3]})) is None
    assert suite_model(compared({"a": [0.1, 0.2], "b": [0.1, 0.2], "c": [0.1, 0.2]})) is None
    assert suite_model(compared({"a": [0.1] * 3, "b": [0.1] * 3, "c": [0.1] * 3})) is None
