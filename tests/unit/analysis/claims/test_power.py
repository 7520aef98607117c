import math
from pathlib import Path

import numpy as np
import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.claims import ClaimResult, judge_claims
from ecrl.analysis.claims.power import (
    compute_between_sd,
    compute_within_sd,
    decision_power,
    seeds_needed,
    suites_needed,
)
from ecrl.analysis.evidence import GOODPUT, build_evidence
from ecrl.analysis.next_runs import CommandLines, mean_block_s, next_runs
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import tost_p
from ecrl.config.matrix import Claim
from tests.unit.analysis.campaign_builder import campaign


def judged(expect: str, *suites: list[float]) -> ClaimResult:
    """A claim on log ratios, a list for each suite."""
    rows: list[Row] = [
        empty_row(suite_id=f"s{i}", seed=seed, variant=variant, goodput_steps_per_s=math.exp(d * share))
        for i, own in enumerate(suites)
        for seed, d in enumerate(own)
        for variant, share in (("overlapped", 1), ("blocking", 0))
    ]
    claim = Claim(name=expect, compare=["overlapped", "blocking"], metric=GOODPUT, expect=expect)
    [found] = judge_claims([claim], rows, {}, registered=True)
    return found


def around(center: float, sd: float, n: int) -> list[float]:
    """n values with exactly this mean and standard deviation."""
    raw = np.arange(n) - (n - 1) / 2
    return [float(center + sd * value / np.std(raw, ddof=1)) for value in raw]


def test_power_reproduces_the_published_plan() -> None:
    """metrics.md 4: at an SD of 1.27 %, 15 pairs show 1 % and 53 show 0.5 %."""
    for effect, n in ((0.01, 15), (0.005, 53)):
        found = judged("ratio > 1.00", around(effect, 0.0127, 6))
        assert decision_power(found, 0.0127, n) >= 0.8 > decision_power(found, 0.0127, n - 1)
    assert seeds_needed(judged("ratio > 1.00", around(0.01, 0.0127, 6)), 1) == 15


def test_a_threshold_is_what_an_effect_must_be_told_from() -> None:
    near, far = (judged(expect, around(0.025, 0.01, 8)) for expect in ("ratio > 1.02", "ratio > 1.00"))
    assert seeds_needed(far, 1) == 6
    needed = seeds_needed(near, 1)  # half a point from 1.02, at an SD of one
    assert needed == pytest.approx((2.8 * 0.01 / (0.025 - math.log(1.02))) ** 2, rel=0.15)


def test_equivalence_is_sized_by_both_one_sided_tests() -> None:
    """A true ratio of 1 is the easiest case of `within`, not an effect of size 0."""
    found = judged("ratio within 0.02", around(0.0, 0.02, 6))
    n = seeds_needed(found, 1)
    assert n is not None
    rng = np.random.default_rng(5)
    low, high = math.log(0.98), math.log(1.02)
    said = decision_power(found, 0.02, n)
    rejected = [(tost_p(list(rng.normal(0, 0.02, n)), low, high) or 0.0) <= 0.05 for _ in range(1000)]
    assert np.mean(rejected) == pytest.approx(said, abs=0.05)
    assert 0.8 <= said < 0.9
    edge = judged("ratio within 0.02", around(0.015, 0.02, 6))
    assert seeds_needed(edge, 1) is None


def test_seeds_narrow_the_spread_within_suites_and_not_the_one_between() -> None:
    noisy = judged("ratio > 1.00", *(around(center, 0.03, 3) for center in (0.018, 0.02, 0.022, 0.02)))
    assert noisy.comparison is not None
    assert compute_within_sd(noisy.comparison) == pytest.approx(0.03)
    assert compute_between_sd(noisy.comparison) == 0
    more = seeds_needed(noisy, 4)
    assert more is not None
    assert more > 3
    apart = judged("ratio > 1.00", *(around(center, 0.003, 4) for center in (0.0, 0.03, 0.06)))
    assert apart.comparison is not None
    assert compute_between_sd(apart.comparison) == pytest.approx(math.sqrt(0.03**2 - 0.003**2 / 4))
    assert seeds_needed(apart, 3) is None
    suites = suites_needed(apart)
    assert suites is not None
    assert decision_power(apart, apart.comparison.sd, suites) >= 0.8
    assert decision_power(apart, apart.comparison.sd, suites - 1) < 0.8


def test_more_suites_are_advised_where_the_spread_between_them_dominates(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path, datasets=["fashion-mini", "cifar10", "cifar100"]))
    apart = judged("ratio > 1.00", *(around(center, 0.003, 3) for center in (0.0, 0.03, 0.06)))
    [one] = [one for one in next_runs(found, [apart], CommandLines()) if "no number of seeds" in one.buys]
    extra = (suites_needed(apart) or 0) - 3
    assert (
        f"over 3 suites no number of seeds gives one (SD between suites 0.0299 of the log ratio). Add {extra} suites"
        in (one.buys)
    )
    assert one.command is None
    block_s = mean_block_s(found)
    assert block_s is not None
    assert one.hours == pytest.approx(block_s * extra * 3 / 3600)


def test_another_interval_is_timed_with_every_value_that_its_command_runs(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path, seeds=[1]))
    [one] = [one for one in build_evidence(found).next_runs if "checkpoint interval" in one.buys]
    assert one.command is not None
    assert "--checkpoint-every 2,4,8" in one.command
    block_s = mean_block_s(found)
    assert block_s is not None
    assert one.hours == pytest.approx(block_s * 2 * 3 / 3600)
