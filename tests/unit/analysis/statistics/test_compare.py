import itertools
import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import compare
from ecrl.analysis.statistics.intervals import (
    clopper_pearson,
    count_sign_patterns,
    log_interval,
    sign_flip_p,
    t_interval,
    tost_p,
)
from ecrl.config.matrix import Claim

RATIO = ("goodput_steps_per_s", "ratio")


def rows(values: dict[tuple[str, int], dict[str, float | None]], metric: str = "goodput_steps_per_s") -> list[Row]:
    return [
        empty_row(suite_id=suite, seed=seed, variant=variant, outcome="completed", **{metric: value})
        for (suite, seed), block in values.items()
        for variant, value in block.items()
    ]


def pairs(*ratios: float, suites: int = 1) -> list[Row]:
    """Blocks whose overlapped goodput is `ratio` times the blocking one, dealt to suites in turn."""
    return rows({(f"s{i % suites}", i): {"blocking": 2.0, "overlapped": 2.0 * r} for i, r in enumerate(ratios)})


def claim(expect: str, metric: str = "goodput_steps_per_s") -> Claim:
    return Claim(name=expect, compare=["overlapped", "blocking"], metric=metric, expect=expect)


def test_the_effect_is_the_geometric_mean_of_suite_means_of_log_ratios() -> None:
    found = rows(
        {
            ("a", 1): {"blocking": 1, "overlapped": 1.1},
            ("a", 2): {"blocking": 1, "overlapped": 1.3},
            ("b", 1): {"blocking": 4, "overlapped": 4.8},
            ("c", 1): {"blocking": 10, "overlapped": 9},
        }
    )
    c = compare(found, "overlapped", "blocking", *RATIO, {})  # type: ignore[arg-type]
    means = [(math.log(1.1) + math.log(1.3)) / 2, math.log(1.2), math.log(0.9)]
    assert c.overall is not None
    assert (c.estimand, len(c.pairs), c.n_suites, c.suites_above) == ("these suites", 4, 3, 2)
    assert c.overall.center == pytest.approx(math.exp(sum(means) / 3))
    assert (c.overall.low, c.p_value, c.suites["b"].low) == (None, None, None), "b and c have one seed"
    workloads = c.estimate_as("workloads")
    assert workloads is not None
    half = 4.302652729911275 * np.std(means, ddof=1) / math.sqrt(3)  # t quantile of 2 degrees of freedom
    assert workloads.interval() == pytest.approx((sum(means) / 3 - half, sum(means) / 3 + half))


def test_what_a_comparison_is_about_does_not_change_with_the_blocks_that_fail() -> None:
    found = pairs(*GAIN, suites=8)
    faults = {(f"s{i}", "overlapped", i): "overlapped is failed" for i in range(4)}
    c = compare(found, "overlapped", "blocking", *RATIO, faults)  # type: ignore[arg-type]
    assert (c.estimand, c.n_suites, len(c.works)) == ("workloads", 4, 8)
    alone = [row for row in found if row["suite_id"] != "s7" or row["variant"] == "overlapped"]
    assert len(compare(alone, "overlapped", "blocking", *RATIO, {}).works) == 7  # type: ignore[arg-type]


def test_the_interval_agrees_with_scipys_paired_t_test() -> None:
    from scipy import stats

    d = [0.01, 0.03, -0.02, 0.05, 0.04]
    expected = stats.ttest_1samp(d, 0).confidence_interval()
    assert t_interval(d, 0.95) == pytest.approx((expected.low, expected.high))


def test_blocks_without_their_pair_are_listed_with_the_reason_and_never_averaged() -> None:
    found = rows(
        {
            ("a", 1): {"blocking": 1, "overlapped": 2},
            ("a", 2): {"blocking": None, "overlapped": 9},
            ("a", 3): {"overlapped": 9},
            ("a", 4): {"blocking": 0, "overlapped": 9},
            ("a", 5): {"blocking": 1, "overlapped": 9},
        }
    )
    c = compare(found, "overlapped", "blocking", *RATIO, {("a", "overlapped", 5): "overlapped is failed"})  # type: ignore[arg-type]
    assert c.overall is not None
    assert c.overall.center == pytest.approx(2)
    assert c.missing == (
        ("a", 2, "goodput_steps_per_s of blocking is not known"),
        ("a", 3, "goodput_steps_per_s of blocking is not known"),
        ("a", 4, "goodput_steps_per_s of blocking is not above 0, so there is no ratio"),
        ("a", 5, "overlapped is failed"),
    )


@pytest.mark.parametrize(("n", "p"), [(3, 0.25), (4, 0.125), (5, 0.0625), (6, 0.03125), (7, 0.015625), (8, 0.0078125)])
def test_the_smallest_exact_p_of_n_pairs(n: int, p: float) -> None:
    assert sign_flip_p([0.1 + i / 100 for i in range(n)]) == pytest.approx(p)


@pytest.mark.parametrize(
    "d", [(1.0, 1.0, -1.0, 2.0), (0.1, 0.2, 0.3, -0.6), (0.03, -0.01, 0.02, 0.05, 0.04, -0.02, 0.01)]
)
def test_the_exact_p_counts_the_sign_patterns_at_least_as_extreme(d: tuple[float, ...]) -> None:
    """Patterns whose sums are equal but for rounding count, also where the sum is 0."""
    sums = [sum(s * x for s, x in zip(signs, d, strict=True)) for signs in itertools.product((1, -1), repeat=len(d))]
    expected = sum(abs(one) >= abs(sum(d)) - 1e-12 for one in sums) / len(sums)
    assert sign_flip_p(d) == expected
    assert sign_flip_p([x + 5 for x in d], 5.0) == expected


def test_a_sampled_p_is_near_the_exact_one() -> None:
    d = np.random.default_rng(2).normal(0.4, 1, 17)
    exact = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=2**17, vectorized=True).pvalue
    sampled = sign_flip_p(list(d))
    assert sampled is not None
    assert sampled == pytest.approx(exact, abs=4 * math.sqrt(exact / 9_999))


def test_many_pairs_are_sampled_with_a_fixed_seed() -> None:
    d = [0.01 * (-1) ** i + 0.001 * i for i in range(40)]
    assert sign_flip_p(d) == sign_flip_p(d)
    assert [count_sign_patterns(n) for n in (6, 16, 17)] == [64, 65_536, 9_999]


@pytest.mark.parametrize(("n", "percent"), [(10, 69.2), (40, 91.2), (100, 96.4), (160, 97.7), (200, 98.2)])
def test_clopper_pearson_lower_bounds_of_all_successes(n: int, percent: float) -> None:
    low, high = clopper_pearson(n, n)
    assert low * 100 == pytest.approx(percent, abs=0.06)
    assert high == 1
    assert clopper_pearson(0, n)[0] == 0


def test_equivalence_needs_spread_and_margin() -> None:
    from statsmodels.stats.weightstats import ttost_paired

    d = np.array([0.001, -0.001, 0.0005, 0.0])
    error = float(np.std(d, ddof=1)) / 2
    expected = ttost_paired(d, np.zeros(4), -0.002, 0.001)[0]
    assert tost_p(float(d.mean()), error, 3, -0.002, 0.001) == pytest.approx(expected)
    assert tost_p(0.5, 0.0, 1, -1, 1) == 0
    assert tost_p(2.0, 0.0, 1, -1, 1) == 1


def test_equal_ratios_give_a_point_and_one_value_gives_no_interval() -> None:
    assert log_interval([2.0, 2.0]) == pytest.approx((2.0, 2.0))
    assert log_interval([2.0]) == (None, None)


def test_two_suites_that_disagree_wildly_give_an_endless_interval_and_no_overflow() -> None:
    wild = pairs(1e-300, 1e300, 1e-300, 1e300, 1e-300, 1e300, suites=6)
    c = compare(wild, "overlapped", "blocking", *RATIO, {})  # type: ignore[arg-type]
    assert c.overall is not None
    assert (c.overall.low, c.overall.high) == (0.0, math.inf)


def test_the_95_percent_interval_of_five_seeds_covers_93_to_97_percent() -> None:
    rng, true, hits, trials = np.random.default_rng(20), math.log(1.03), 0, 2000
    for _ in range(trials):
        found = pairs(*np.exp(rng.normal(true, 0.02, 5)))
        c = compare(found, "overlapped", "blocking", *RATIO, {})  # type: ignore[arg-type]
        assert c.overall is not None
        assert c.overall.low is not None
        assert c.overall.high is not None
        hits += c.overall.low <= 1.03 <= c.overall.high
    assert 0.93 <= hits / trials <= 0.97


# -- claims ---------------------------------------------------------------------------------------------------

GAIN = (1.03, 1.05, 1.04, 1.06, 1.02, 1.04, 1.05, 1.03)


def verdict(expect: str, found: list[Row], *, metric: str = "goodput_steps_per_s", **options: Any) -> str:
    [judged] = judge_claims([claim(expect, metric)], found, {}, **{"registered": True, **options})
    return judged.verdict


@pytest.mark.parametrize(
    ("expect", "expected"),
    [
        ("ratio > 1.00", "CONFIRMED"),
        ("ratio > 1.10", "REFUTED"),
        ("ratio > 1.04", "INCONCLUSIVE"),
        ("ratio < 1.00", "REFUTED"),
        ("ratio within 0.10", "CONFIRMED"),
        ("ratio within 0.01", "REFUTED"),
        ("difference > 0.0", "CONFIRMED"),
    ],
)
def test_verdicts_follow_the_interval(expect: str, expected: str) -> None:
    assert verdict(expect, pairs(*GAIN)) == expected


def test_fewer_than_six_pairs_are_directional_only() -> None:
    [judged] = judge_claims([claim("ratio > 1.00")], pairs(*GAIN[:5]), {}, registered=True)
    assert judged.verdict == "INCONCLUSIVE"
    assert judged.reasons == ("directional only, in the claimed direction: 5 pairs, 6 are needed",)


def test_a_verdict_names_whom_it_speaks_of() -> None:
    def read(found: list[Row], *, noise: bool | None = None) -> str:
        [judged] = judge_claims([claim("ratio > 1.00")], found, {}, registered=True, has_noise=lambda _: noise)
        return judged.reading

    one = [row | {"model": "cnn", "dataset": "fashion-mini"} for row in pairs(*GAIN)]
    assert read(one) == "CONFIRMED for cnn on fashion-mini, 8 seeds"
    assert read(pairs(*GAIN, suites=4), noise=False) == "CONFIRMED for these 4 suites, noise not measured"
    assert read(pairs(*GAIN, suites=8), noise=True) == "CONFIRMED for workloads like these 8 suites"
    assert read(pairs(*GAIN[:4])) == "INCONCLUSIVE"


def test_these_suites_need_two_seeds_in_each_of_them() -> None:
    found = pairs(*GAIN[:7], suites=4)  # the last suite has one seed
    [judged] = judge_claims([claim("ratio > 1.00")], found, {}, registered=True)
    assert judged.verdict == "INCONCLUSIVE"
    assert judged.reasons == (
        "directional only, in the claimed direction: 1 of these 4 suites has fewer than 2 pairs, which show no spread",
    )
    gone = {("s1", "overlapped", seed): "overlapped is failed" for seed in (1, 5)}
    [judged] = judge_claims([claim("ratio > 1.00")], pairs(*GAIN, suites=4), gone, registered=True)
    assert "1 of these 4 suites has fewer than 2 pairs" in judged.reasons[0]


def test_a_bootstrap_interval_that_includes_the_bound_keeps_a_verdict_back() -> None:
    """Eleven blocks near 1.01 and a straggler: the t interval is [0.994, 1.016], the bootstrap's begins at 0.985."""
    found = pairs(*[1.01] * 6, *[1.0102] * 5, 0.95)
    [judged] = judge_claims([claim("ratio > 0.99")], found, {}, registered=True)
    assert judged.low is not None
    assert judged.low > 0.99
    assert judged.p_adjusted is not None
    assert judged.p_adjusted <= 0.05
    assert judged.verdict == "INCONCLUSIVE"
    [reason] = judged.reasons
    assert reason.startswith("the t interval decides it, the bootstrap interval [0.9846, 1.01]")


def test_a_blocking_threat_vetoes_confirmed_and_refuted_alike() -> None:
    def find_vetoes(_claim: Claim) -> list[str]:
        return ["one_seed"]

    assert verdict("ratio > 1.00", pairs(*GAIN), find_vetoes=find_vetoes) == "INCONCLUSIVE"
    assert verdict("ratio > 1.10", pairs(*GAIN), find_vetoes=find_vetoes) == "INCONCLUSIVE"


def test_refuted_needs_the_adjusted_p_as_confirmed_does() -> None:
    six = pairs(*GAIN[:6])
    assert verdict("ratio > 1.10", six) == "REFUTED"
    both = judge_claims([claim("ratio > 1.10"), claim("ratio > 1.04")], six, {}, registered=True)
    assert [j.verdict for j in both] == ["INCONCLUSIVE", "INCONCLUSIVE"]
    assert "Holm-adjusted p = 0.0625" in both[0].reasons[-1]


def test_suites_that_are_the_same_work_for_both_variants_are_one_block() -> None:
    found = pairs(*GAIN, suites=4)
    alike = [row | {"uses": row["variant"]} for row in found]
    c = compare(alike, "overlapped", "blocking", *RATIO, {})  # type: ignore[arg-type]
    apart = compare(found, "overlapped", "blocking", *RATIO, {})  # type: ignore[arg-type]
    assert (c.n_suites, c.estimand, {pair.suite_id for pair in c.pairs}) == (1, "suite", {"s0"})
    assert len(c.pairs) == len({pair.seed for pair in apart.pairs})
    assert math.fsum(pair.d for pair in c.pairs) / len(c.pairs) == pytest.approx(
        math.fsum(pair.d for pair in apart.pairs) / len(apart.pairs)
    )
    own = [
        row | {"uses": row["variant"] + (row["suite_id"] if row["variant"] == "overlapped" else "")} for row in found
    ]
    assert compare(own, "overlapped", "blocking", *RATIO, {}).n_suites == apart.n_suites  # type: ignore[arg-type]


def test_a_third_variant_that_fails_costs_nothing() -> None:
    c = compare(pairs(*GAIN), "overlapped", "blocking", *RATIO, {("s0", "third", 0): "third is failed"})  # type: ignore[arg-type]
    assert (len(c.pairs), c.missing) == (len(GAIN), ())


def test_claims_younger_than_the_first_run_are_exploratory_and_say_what_they_would_read() -> None:
    [judged] = judge_claims([claim("ratio > 1.00")], pairs(*GAIN), {}, registered=False)
    assert (judged.verdict, judged.would_be) == ("EXPLORATORY", "CONFIRMED")


def test_holm_counts_every_registered_claim() -> None:
    six = pairs(*GAIN[:6])
    assert verdict("ratio > 1.00", six) == "CONFIRMED"
    both = judge_claims([claim("ratio > 1.00"), claim("ratio > 1.04")], six, {}, registered=True)
    assert [j.verdict for j in both] == ["INCONCLUSIVE", "INCONCLUSIVE"]
    assert both[0].p == pytest.approx(0.03125)
    assert both[0].p_adjusted == pytest.approx(0.0625)


def test_a_rate_is_judged_by_its_exact_bound() -> None:
    found = rows({("s", i): {"overlapped": True, "blocking": True} for i in range(40)}, "correct")
    assert verdict("rate > 0.90", found, metric="correct") == "CONFIRMED"
    assert verdict("rate > 0.95", found, metric="correct") == "INCONCLUSIVE"
    assert verdict("rate < 0.50", found, metric="correct") == "REFUTED"


def test_several_rates_keep_the_level_of_one() -> None:
    """9 of 10 above one half: the one-sided p is .0107, so two of them are one too many at .025."""
    found = pairs(*[1.03] * 9, 0.97)
    one = claim("rate > 0.50", "goodput_steps_per_s")
    [alone] = judge_claims([one], found, {}, registered=True)
    assert alone.verdict == "CONFIRMED"
    assert alone.p == pytest.approx(2 * 11 / 1024)
    twice = judge_claims([one, one.model_copy(update={"name": "again"})], found, {}, registered=True)
    assert [judged.verdict for judged in twice] == ["CONFIRMED", "CONFIRMED"]
    thrice = judge_claims([one.model_copy(update={"name": str(i)}) for i in range(3)], found, {}, registered=True)
    assert [judged.verdict for judged in thrice] == ["INCONCLUSIVE"] * 3


@pytest.mark.parametrize("metric", ["goodput_steps_per_s", "correct"])
def test_a_rate_of_fewer_than_six_is_directional_too(metric: str) -> None:
    found = [row | {"correct": True} for row in pairs(*[1.03] * 5)]
    [judged] = judge_claims([claim("rate > 0.40", metric)], found, {}, registered=True)
    assert judged.low is not None
    assert judged.low > 0.4
    assert judged.verdict == "INCONCLUSIVE"
    assert judged.reasons[0].startswith("directional only, in the claimed direction: 5 ")


def test_without_any_pair_a_claim_is_inconclusive() -> None:
    assert verdict("ratio > 1.00", []) == "INCONCLUSIVE"
    assert verdict("rate > 0.90", [], metric="correct") == "INCONCLUSIVE"
    assert verdict("ratio > -1.00", pairs(*GAIN)) == "INCONCLUSIVE"  # no ratio could ever contradict it
