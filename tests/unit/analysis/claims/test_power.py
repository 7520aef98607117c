import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.claims.power import (
    Aim,
    Design,
    Spread,
    build_aim,
    estimate_spread,
    find_smallest_detectable,
    plan_seeds,
    plan_suites,
)
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.evidence import GOODPUT, build_evidence
from ecrl.analysis.next_runs import CommandLines, mean_block_s, next_runs
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.estimate import Estimate, compute_sd_bound
from ecrl.config.matrix import Claim
from tests.unit.analysis.campaign_builder import campaign


def judged(expect: str, *suites: Sequence[float], smallest: float | None = None) -> ClaimResult:
    """A claim on log ratios, a list for each suite."""
    rows: list[Row] = [
        empty_row(suite_id=f"s{i}", seed=seed, variant=variant, goodput_steps_per_s=math.exp(d * share))
        for i, own in enumerate(suites)
        for seed, d in enumerate(own)
        for variant, share in (("overlapped", 1), ("blocking", 0))
    ]
    claim = Claim(name=expect, compare=["overlapped", "blocking"], metric=GOODPUT, expect=expect, smallest=smallest)
    [found] = judge_claims([claim], rows, {}, registered=True)
    return found


def around(center: float, sd: float, n: int) -> list[float]:
    """n values with exactly this mean and standard deviation."""
    raw = np.arange(n) - (n - 1) / 2
    return [float(center + sd * value / np.std(raw, ddof=1)) for value in raw]


def plan(found: ClaimResult, claims: int = 1) -> tuple[Comparison, Aim]:
    c, aim = found.comparison, build_aim(found, claims)
    assert c is not None
    assert aim is not None
    return c, aim


def test_power_reproduces_the_published_plan() -> None:
    """metrics.md: at an SD of 1.27 %, 15 pairs show 1 % and 53 show 0.5 %."""
    for effect, n in ((0.01, 15), (0.005, 53)):
        aim = Aim(effect, None, is_registered=True, alpha=0.05)
        powers = [aim.compute_power(*Design("suite", 1, seeds).compute_error(Spread(0.0127, 0, is_split=True)))
                  for seeds in (n - 1, n)]  # fmt: skip
        assert powers[0] < 0.8 <= powers[1]


def test_a_plan_takes_the_upper_bound_of_the_sd_and_the_registered_effect() -> None:
    found = judged("ratio > 1.00", around(0.03, 0.0127, 6), smallest=0.01)
    c, aim = plan(found)
    assert aim.is_registered
    assert aim.distance == pytest.approx(math.log(1.01))
    spread = estimate_spread(c)
    assert spread is not None
    assert spread.within == pytest.approx(compute_sd_bound(0.0127, 5, 0.8))
    assert spread.within > 0.0127 * 1.2
    design = plan_seeds(c, aim, 1)
    assert design is not None
    assert design.seeds > 20, "1 %, and not the 3 % that were found"
    below = judged("ratio < 1.00", around(0.03, 0.0127, 6), smallest=0.01)
    assert plan(below)[1].distance == pytest.approx(-math.log(0.99))


def test_a_claim_without_a_smallest_effect_is_planned_with_the_one_found() -> None:
    c, aim = plan(judged("ratio > 1.02", around(0.025, 0.001, 8)))
    assert not aim.is_registered
    assert aim.distance == pytest.approx(0.025 - math.log(1.02))
    assert plan_seeds(c, aim, 1) == Design("suite", 1, 6), "fewer seeds can give no p of .05"


def test_holm_over_all_claims_and_the_sign_flip_ask_for_more_seeds() -> None:
    found = judged("ratio > 1.00", around(0.05, 0.001, 6))
    counts = [plan_seeds(*plan(found, claims), 1) for claims in (1, 3, 10)]
    assert [one.seeds for one in counts if one is not None] == [6, 7, 9]


def test_equivalence_is_planned_with_both_one_sided_tests() -> None:
    """A true ratio of 1 is the easiest case of `within`, not an effect of size 0."""
    found = judged("ratio within 0.02", around(0.0, 0.02, 6))
    c, aim = plan(found)
    spread, design = estimate_spread(c), plan_seeds(c, aim, 1)
    assert spread is not None
    assert design is not None
    error, df = design.compute_error(spread)
    rng, margin = np.random.default_rng(5), (math.log(0.98), math.log(1.02))
    decided = []
    for _ in range(1000):
        d = rng.normal(0, spread.within, design.seeds).tolist()
        decided.append((Estimate("suite", {"s": dict(enumerate(d))}).compute_tost_p(*margin) or 0.0) <= 0.05)
    assert np.mean(decided) == pytest.approx(aim.compute_power(error, df), abs=0.04)
    edge = judged("ratio within 0.02", around(0.015, 0.02, 6))
    assert plan_seeds(*plan(edge), 1) is None


def test_seeds_decide_claims_about_these_suites_and_suites_those_about_workloads() -> None:
    centers = (0.0, 0.03, 0.06, 0.03)
    these = judged("ratio > 1.00", *(around(center, 0.08, 4) for center in centers))
    c, aim = plan(these)
    spread = estimate_spread(c)
    assert spread is not None
    assert spread.between == 0
    design = plan_seeds(c, aim, 4)
    assert design is not None
    assert design.estimand == "these suites"
    assert 4 < design.seeds < 30
    workloads = judged("ratio > 1.00", *(around(center, 0.003, 4) for center in (*centers, 0.0, 0.005)))
    c, aim = plan(workloads)
    assert plan_seeds(c, aim, 6) is None, "suites differ more than seeds"
    more = plan_suites(c, aim, 4)
    assert more is not None
    assert more.suites > 6
    spread = estimate_spread(c)
    assert spread is not None
    powers = [
        aim.compute_power(*Design("workloads", n, 4).compute_error(spread)) for n in (more.suites - 1, more.suites)
    ]
    assert powers[0] < 0.8 <= powers[1]


def test_suites_with_one_seed_show_no_spread_that_seeds_would_lower() -> None:
    c, aim = plan(judged("ratio > 1.00", *([x] for x in around(0.01, 0.02, 8))))
    spread = estimate_spread(c)
    assert spread is not None
    assert not spread.is_split
    assert plan_seeds(c, aim, 8) is None
    design = plan_suites(c, aim, 1)
    assert design is not None
    assert design.seeds == 2, "one seed blocks every claim"
    assert estimate_spread(plan(judged("ratio > 1.00", [0.01], [0.02]))[0]) is None


def test_what_could_show_nothing_has_no_smallest_effect() -> None:
    def smallest(*suites: Sequence[float], claims: int = 1) -> float | None:
        c = judged("ratio > 1.00", *suites).comparison
        assert c is not None
        return find_smallest_detectable(c, claims)

    # metrics.md: at an SD of 1.27 %, 8, 16 and 24 blocks show 1.47, 0.95 and 0.76 %
    for n, least in ((8, 0.0147), (16, 0.0095), (24, 0.0076)):
        assert smallest(around(0.01, 0.0127, n)) == pytest.approx(least, abs=5e-5)
    assert smallest([0.01, 0.02]) is None, "two pairs"
    assert smallest(*([x] for x in around(0.01, 0.02, 8))) is None, "one seed"
    assert smallest(around(0.01, 0.0127, 6), claims=3) is None, "7 blocks are the least with three claims"
    assert smallest([0.01] * 8) is None
    few, many = smallest(*[around(0.0, 0.01, 2)] * 4), smallest(*[around(0.0, 0.01, 6)] * 4)
    assert few is not None
    assert many is not None
    assert many < few / 1.7


def test_more_suites_are_advised_where_the_spread_between_them_dominates(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path, datasets=["fashion-mini", "cifar10", "cifar100"]))
    apart = judged("ratio > 1.00", *(around(center, 0.003, 3) for center in (0.0, 0.03, 0.06, 0.0, 0.0, 0.0)))
    c, aim = plan(apart)
    [one] = [one for one in next_runs(found, [apart], CommandLines()) if "no number of seeds" in one.buys]
    design = plan_suites(c, aim, 3)
    assert design is not None
    extra = design.suites - 6
    assert one.buys.startswith('80 % power to decide "ratio > 1.00" if the true effect is the observed one, 1.015')
    assert f"Add {extra} suites (data sets, models or schedules), with 3 seeds each" in one.buys
    assert one.command is None
    block_s = mean_block_s(found)
    assert block_s is not None
    assert one.hours == pytest.approx(block_s * extra * 3 / 3600)


def test_the_seeds_that_decide_a_claim_come_with_their_command_and_their_assumptions(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path))
    near = judged("ratio > 1.00", *[around(0.01, 0.02, 3)] * 2, smallest=0.02)
    [one] = [one for one in next_runs(found, [near], CommandLines()) if "power to decide" in one.buys]
    design = plan_seeds(*plan(near), 2)
    assert design is not None
    assert "the smallest of interest, 2 % from its bound" in one.buys
    assert f"({design.seeds} seeds x 2 suites, planned with the SD's upper 80 % bound)" in one.buys
    assert one.command is not None
    listed = one.command.partition("--seeds ")[2].split(",")
    assert len(listed) == design.seeds


def test_a_fault_of_a_variant_is_lifted_by_no_number_of_runs(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path))
    near = judged("ratio > 1.00", *[around(0.01, 0.02, 3)] * 2)
    suggested = next_runs(found, [near], CommandLines(), lambda _: ["checkpoints_vanished", "one_seed"])
    [one] = [one for one in suggested if "No number of runs" in one.buys]
    assert "checkpoints_vanished is a fault of a variant" in one.buys
    assert not any("power to decide" in one.buys for one in suggested)


def test_another_interval_is_timed_with_every_value_that_its_command_runs(tmp_path: Path) -> None:
    found = load_campaign(campaign(tmp_path, seeds=[1]))
    [one] = [one for one in build_evidence(found).next_runs if "checkpoint interval" in one.buys]
    assert one.command is not None
    assert "--checkpoint-every 2,4,8" in one.command
    block_s = mean_block_s(found)
    assert block_s is not None
    assert one.hours == pytest.approx(block_s * 2 * 3 / 3600)
