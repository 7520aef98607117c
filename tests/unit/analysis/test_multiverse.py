"""Every defensible analysis of a claim, judged by the rules of the report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.claims.result import CONFIRMED, INCONCLUSIVE, REFUTED
from ecrl.analysis.evidence import build_evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.multiverse import (
    CENTER,
    IN,
    LEFT_OUT,
    MOST_ANALYSES,
    OUT,
    OUTLYING,
    SCALE,
    STARTUP,
    WARM_UP,
    Multiverse,
    explore,
)
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.config.matrix import Claim
from ecrl.records.paths import CampaignPaths
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.analysis.external_table.table_builder import load, make_rows
from tests.unit.analysis.external_table.test_table import ROWS, table

GOODPUT = "goodput_steps_per_s"


def rows_of(suites: Mapping[str, Sequence[float]], metric: str = GOODPUT) -> list[Row]:
    """Blocking at 10, overlapped at so many times that, for each suite and seed."""
    return [
        empty_row(suite_id=suite, seed=seed, variant=variant, outcome="completed", **{metric: 10 * factor})
        for suite, ratios in suites.items()
        for seed, ratio in enumerate(ratios, start=1)
        for variant, factor in (("blocking", 1.0), ("overlapped", ratio))
    ]


def made(rows: list[Row], expect: str = "ratio > 1.00", metric: str = GOODPUT) -> Multiverse:
    claim = Claim(name="it pays", compare=["overlapped", "blocking"], metric=metric, expect=expect)
    [judged] = judge_claims([claim], rows, {}, registered=True)
    found = explore(claim, judged, (), rows, {}, {})
    assert found is not None
    return found


def spread(ratio: float, n: int = 4) -> list[float]:
    return [ratio + 0.001 * (i - (n - 1) / 2) for i in range(n)]


def test_an_effect_that_hangs_on_one_suite_is_lost_in_every_analysis_without_it() -> None:
    found = made(rows_of({"a": spread(0.99), "b": spread(0.988), "c": spread(0.991), "big": spread(1.08)}))
    assert found.registered.verdict == CONFIRMED
    assert found.judged is not None
    assert (found.registered.estimate, found.registered.low) == (found.judged.estimate, found.judged.low)
    without = [one for one in found.analyses if one.choices[LEFT_OUT] == "big"]
    assert len(without) == 2  # either scale
    assert {one.verdict for one in without} == {REFUTED}
    assert all(one.verdict == CONFIRMED for one in found.analyses if one not in without)
    assert found.find_common(REFUTED) == ([(LEFT_OUT, "big")], 0)


def test_an_effect_of_every_suite_is_confirmed_in_all_analyses() -> None:
    found = made(rows_of({name: spread(1.02 + 0.001 * place) for place, name in enumerate("abcdefgh")}))
    assert found.counts == {CONFIRMED: len(found.analyses)}
    assert set(found.dimensions) == {SCALE, CENTER, "about", LEFT_OUT}
    assert found.dimensions["about"] == ("workloads", "these suites")
    assert {one.choices[CENTER] for one in found.analyses if one.choices["about"] == "these suites"} == {"mean"}


def test_the_registered_analysis_is_that_of_the_report(tmp_path: Path) -> None:
    """Also its Holm adjustment over the other claims, which no analysis of one claim changes."""
    other = '[[claims]]\nname = "same loss"\ncompare = ["overlapped", "blocking"]\nmetric = "final_loss"\n'
    claims = '[[claims]]\nname = "pays"\ncompare = ["overlapped", "blocking"]\nexpect = "ratio > 1.00"\n'
    evidence = build_evidence(
        load_campaign(campaign(tmp_path, claims=f'{claims}{other}expect = "difference within 0.1"\n'))
    )
    for judged, found in zip(evidence.claims, evidence.multiverses, strict=True):
        assert found.registered.verdict == judged.would_be
        assert (found.registered.estimate, found.registered.high) == (judged.estimate, judged.high)
    first, second = evidence.multiverses
    assert {STARTUP, WARM_UP} <= set(first.dimensions)
    assert STARTUP not in second.dimensions  # a loss has no share of startup
    again = build_evidence(load_campaign(CampaignPaths(tmp_path, "exp"))).multiverses
    assert [one.analyses for one in again] == [one.analyses for one in evidence.multiverses]


def test_goodput_without_startup_is_the_column_of_that_name(tmp_path: Path) -> None:
    evidence = build_evidence(load_campaign(campaign(tmp_path)))
    steady = evidence.compare("overlapped", "blocking", "goodput_steady_steps_per_s").overall
    assert steady is not None
    [one] = [
        one.estimate
        for one in evidence.multiverses[0].analyses
        if (one.choices[STARTUP], one.choices[WARM_UP], one.choices[SCALE]) == (OUT, IN, "log")
    ]
    assert one == pytest.approx(steady.center)


def test_outlying_blocks_are_left_out_where_there_are_some() -> None:
    ratios = [1.01, 1.012, 1.009, 1.011, 1.01, 1.013, 1.008, 1.3]
    found = made(rows_of({"s": ratios}))
    assert found.dimensions[OUTLYING] == (IN, OUT)
    alone = [
        one for one in found.analyses
        if one.choices == {**found.registered.choices, OUTLYING: OUT}
    ]  # fmt: skip
    expected = math.exp(sum(map(math.log, ratios[:7])) / 7)
    assert [one.estimate for one in alone] == [pytest.approx(expected)]
    assert OUTLYING not in made(rows_of({"s": ratios[:7]})).dimensions


def test_the_median_is_judged_by_the_sign_test() -> None:
    found = made(rows_of({"s": [1.02, 1.01, 1.03, 1.04, 1.05, 1.06, 0.99, 1.07]}))
    [median] = [one for one in found.analyses if one.choices == {**found.registered.choices, CENTER: "median"}]
    assert median.estimate == pytest.approx(math.sqrt(1.03 * 1.04))
    assert [median.low, median.high] == pytest.approx([0.99, 1.07])
    assert median.verdict == INCONCLUSIVE  # 7 of 8 above: p = .07
    assert found.registered.verdict == CONFIRMED


def test_a_difference_against_zero_is_also_that_of_geometric_means() -> None:
    rows = rows_of({"s": [0.5, 0.4, 0.45, 0.5, 0.6, 0.5, 0.55]}, "stall_s")
    found = made(rows, "difference < 0", "stall_s")
    assert found.dimensions[SCALE] == ("linear", "log")
    [log] = [one for one in found.analyses if one.choices == {**found.registered.choices, SCALE: "log"}]
    expected = 10 * math.exp(sum(map(math.log, (0.5, 0.4, 0.45, 0.5, 0.6, 0.5, 0.55))) / 7) - 10
    assert log.estimate == pytest.approx(expected)
    assert SCALE not in made(rows, "difference < -1", "stall_s").dimensions
    zero = [row | {"stall_s": 0.0} if row["variant"] == "overlapped" and row["seed"] == 1 else row for row in rows]
    assert SCALE not in made(zero, "difference < 0", "stall_s").dimensions


def test_analyses_are_capped_and_the_suites_that_move_the_effect_most_are_kept() -> None:
    suites = {f"s{place:02}": spread(1.02 + 0.001 * place) for place in range(80)}
    found = made(rows_of({**suites, "far": spread(1.5)}))
    assert 100 < len(found.analyses) <= MOST_ANALYSES
    assert found.dimensions[LEFT_OUT][:2] == ("", "far")
    assert found.left_out_of == 81


@pytest.mark.parametrize("suites", [{}, {"s": [1.02]}, {"s": spread(1.02, 5)}, {"a": spread(1.02, 7), "b": [1.02]}])
def test_too_few_blocks_give_no_analysis_that_decides(suites: Mapping[str, Sequence[float]]) -> None:
    claim = Claim(name="it pays", compare=["overlapped", "blocking"], metric=GOODPUT, expect="ratio > 1.00")
    found = explore(claim, None, (), rows_of(suites), {}, {})
    assert (found is None) == (not suites)
    assert found is None or (found.analyses == () and found.few)


def test_a_table_that_contradicts_itself_shows_no_gain(tmp_path: Path) -> None:
    found = load(
        tmp_path, make_rows(ovl_stall_s=lambda _: "30000", ovl_wall_s=lambda _: "100", blk_wall_s=lambda _: "100")
    )
    assert found.threats.flaws
    assert found.multiverses == ()


def test_rates_and_levels_have_no_multiverse() -> None:
    rows = rows_of({"s": spread(1.02, 8)})
    rate = Claim(name="r", compare=["overlapped", "blocking"], metric=GOODPUT, expect="rate > 0.5")
    level = Claim(name="l", of="overlapped", metric=GOODPUT, expect="value > 0.5")
    assert [explore(claim, None, (), rows, {}, {}) for claim in (rate, level)] == [None, None]


def test_without_claims_the_main_comparison_is_crossed_and_a_table_by_what_it_has(tmp_path: Path) -> None:
    [found] = build_evidence(load_campaign(campaign(tmp_path / "c", claims=""))).multiverses
    assert (found.judged, found.claim.compare) == (None, ["overlapped", "blocking"])
    [found] = load_table_evidence(table(tmp_path, ROWS), None).multiverses
    assert found.few
    [found] = load(tmp_path, make_rows()).multiverses
    assert STARTUP not in found.dimensions
    assert {SCALE, LEFT_OUT} <= set(found.dimensions)
