import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from ecrl.analysis.campaign.load import REPEAT_VARIANT, load_campaign
from ecrl.analysis.claims.noise import Noise
from ecrl.analysis.evidence import GOODPUT, Evidence, build_evidence
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.compare import compare
from ecrl.analysis.statistics.intervals import bca_interval, wilson
from ecrl.analysis.statistics.rates import compare_recovery, mcnemar_p
from ecrl.analysis.threats.base import Threat
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import CLAIM, campaign


def again(paths: CampaignPaths, later_ms: int, more_ms: int = 0, arm: str = "reference") -> None:
    """Repeat the runs of an arm with seed 1. Their launchers end `later_ms` later, and `more_ms` in each next suite."""
    for i, first in enumerate(sorted(paths.root.glob(f"suites/*/{arm}/seed1"))):
        second = first.parent.parent / f"{arm}-aa" / first.name
        shutil.copytree(first, second)
        events = second / "events-launcher.jsonl"
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        lines[-1]["t"] += (later_ms + more_ms * i) * 1_000_000
        events.write_text("".join(json.dumps(line) + "\n" for line in lines))


def repeated(tmp_path: Path, later_ms: int) -> Evidence:
    paths = campaign(tmp_path)
    again(paths, later_ms)
    return build_evidence(load_campaign(paths))


def codes(found: Evidence) -> dict[str, str]:
    return {threat.code: threat.evidence for threat in found.threats.found}


def test_a_second_reference_gives_the_noise_and_is_in_no_table(tmp_path: Path) -> None:
    found = repeated(tmp_path, 10)
    assert found.noise is not None
    assert len(found.noise.comparison.pairs) == 2
    first, second = found.noise.comparison.pairs[0].b, found.noise.comparison.pairs[0].a
    assert 12 / second - 12 / first == pytest.approx(0.010)
    assert found.noise.sd == pytest.approx(abs(found.noise.comparison.pairs[0].d))
    assert len(found.rows) == 18
    assert not any(REPEAT_VARIANT in text for text in found.warnings)
    assert [run.row["c6"] for run in found.again] == ["pass", "pass"]


def test_noise_as_large_as_the_claimed_effect_blocks_it(tmp_path: Path) -> None:
    found = repeated(tmp_path, 500)
    assert "overlapping pays: a mean of 6 pairs of equal runs may lie" in codes(found)["aa_noise_ge_effect"]
    assert "only 0 of 2 suites" in codes(found)["sign_only_support"]
    assert {judged.verdict for judged in found.claims} == {"INCONCLUSIVE"}


def test_without_a_second_reference_the_noise_counts_as_not_checked(tmp_path: Path) -> None:
    found = build_evidence(load_campaign(campaign(tmp_path, seeds=[1])))
    assert found.noise is None
    assert found.threats.not_checked["aa_noise_ge_effect"].startswith("no arm was run twice (A/A)")
    assert "aa_noise_ge_effect" not in found.threats.clear


def test_a_second_reference_that_does_not_read_is_named(tmp_path: Path) -> None:
    paths = campaign(tmp_path, seeds=[1])
    again(paths, 0)
    for spec in paths.root.glob(f"suites/*/{REPEAT_VARIANT}/seed1/run.json"):
        spec.write_text("{")
    found = build_evidence(load_campaign(paths))
    assert found.noise is None
    assert sum(REPEAT_VARIANT in text for text in found.warnings) == 2


def differing(*d: float, arm: str = "blocking") -> Noise:
    """The noise of pairs of equal runs with these log ratios, a suite each."""
    rows = [
        empty_row(suite_id=f"s{i}", seed=1, variant=variant, goodput_steps_per_s=math.exp(value))
        for i, x in enumerate(d)
        for variant, value in ((f"{arm}-aa", x), (arm, 0.0))
    ]
    return Noise(compare(rows, f"{arm}-aa", arm, GOODPUT, "ratio", {}), arm)


def test_the_noise_of_a_mean_is_that_of_as_many_pairs() -> None:
    """A gain of 1.9 % over 48 pairs stands above an SD of 3 % of one pair, and ever more clearly with more runs."""
    noise = differing(0.03, -0.03, 0.03)
    assert noise.sd == pytest.approx(0.03)
    assert noise.compute_mean_bound([1 / 48] * 48) == pytest.approx(stats.t.ppf(0.975, 3) * 0.03 / math.sqrt(48))
    assert noise.compute_mean_bound([1 / 48] * 48) < 0.019 < noise.sd
    assert noise.compute_mean_bound([1.0]) > noise.sd


def test_the_sd_of_two_pairs_may_be_half_or_six_times_as_large() -> None:
    low, high = differing(0.03, -0.03).sd_bounds
    assert (low / 0.03, high / 0.03) == pytest.approx((0.52, 6.28), abs=0.01)


def test_equal_runs_that_are_told_apart_have_a_bias() -> None:
    assert differing(0.02, -0.01, 0.01).bias is None
    bias = differing(0.020, 0.021, 0.022).bias
    assert bias == pytest.approx(0.021 + stats.t.ppf(0.975, 2) * 0.001 / math.sqrt(3))
    assert differing(0.02).bias is None


def test_a_bias_that_could_make_the_effect_blocks_it_and_a_small_one_is_said(tmp_path: Path) -> None:
    def find(later_ms: tuple[int, int], name: str) -> Threat | None:
        paths = campaign(tmp_path / name)
        again(paths, *later_ms)
        found = build_evidence(load_campaign(paths)).threats.found
        return next((threat for threat in found if threat.code == "aa_noise_ge_effect"), None)

    assert find((10, -20), "fair") is None
    small = find((4, 0), "small")
    assert small is not None
    assert "equal runs are told apart" in small.evidence
    assert not small.blocking
    large = find((60, 0), "large")
    assert large is not None
    assert large.blocking
    assert large.claim == "overlapping pays"


def test_the_noise_of_the_arm_that_restarts_counts_where_it_was_measured(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    again(paths, 5)
    again(paths, 500, arm="blocking")
    found = build_evidence(load_campaign(paths))
    assert found.noise is not None
    assert found.noise.arm == "blocking"
    assert "2 A/A pairs of blocking" in codes(found)["aa_noise_ge_effect"]


STALL = """[[claims]]
name = "stalls less"
metric = "stall_s"
compare = ["overlapped", "blocking"]
expect = "EXPECT"
"""


@pytest.mark.parametrize("expect", ["ratio < 0.50", "difference < 0.0"])
def test_a_claim_on_what_no_reference_has_is_not_held_against_noise(tmp_path: Path, expect: str) -> None:
    """A reference never stalls: its noise is a ratio of zeros, or the difference of two."""
    claim = STALL.replace("EXPECT", expect)
    both = campaign(tmp_path / "both", claims=f"{CLAIM}{claim}", seeds=[1])
    alone = campaign(tmp_path / "alone", claims=claim, seeds=[1])
    for paths in (both, alone):
        again(paths, 10, -20)
    codes_of = {"aa_noise_ge_effect", "sign_only_support"}
    for paths, cleared in ((both, codes_of), (alone, set())):
        report = build_evidence(load_campaign(paths)).threats
        for code in codes_of:
            assert report.not_checked[f"{code} (stalls less)"] == "A/A noise of stall_s is undefined"
        assert codes_of & set(report.clear) == cleared
        assert not codes_of & {threat.code for threat in report.found}


def test_without_a_claimed_effect_noise_does_not_apply(tmp_path: Path) -> None:
    rate = CLAIM.replace("ratio > 1.00", "rate > 0.50").replace("[[claims]]", '[[claims]]\nmetric = "correct"')
    paths = campaign(tmp_path, claims=rate, seeds=[1])
    again(paths, 10)
    report = build_evidence(load_campaign(paths)).threats
    assert report.not_applicable["aa_noise_ge_effect"] == "no effect is claimed"


def test_a_reference_that_failed_blames_no_variant_for_what_it_leaves_undecided(tmp_path: Path) -> None:
    paths = campaign(tmp_path)
    result = next(paths.root.glob("suites/*/reference/seed1/result.json"))
    result.write_text(json.dumps(json.loads(result.read_text()) | {"outcome": "failed", "exit_code": 1}))
    found = build_evidence(load_campaign(paths))
    assert [row["correct"] for row in found.rows].count(None) == 2
    [threat] = [threat for threat in found.threats.found if threat.code == "missing_blocks"]
    assert not threat.blocking, "it is missing for both"
    assert "(reference is failed;" in threat.evidence


# -- facts of the machine -------------------------------------------------------------------------------------


def with_facts(tmp_path: Path, before: dict[str, Any], after: dict[str, Any], device: str = "cuda") -> Evidence:
    paths = campaign(tmp_path, seeds=[1], device=device)
    for path in paths.root.glob("suites/*/*/*/result.json"):
        raw = json.loads(path.read_text())
        raw["machine"]["pressure_before"] = before
        raw["machine"]["pressure_after"] = after
        path.write_text(json.dumps(raw))
    return build_evidence(load_campaign(paths))


@pytest.mark.parametrize(
    ("code", "before", "bad", "good", "words"),
    [
        (
            "disk_nearly_full", {}, {"disk_free_bytes": 5, "disk_total_bytes": 100}, {"disk_free_bytes": 10**12},
            "5 B free",
        ),
        (
            "suspended", {"boot_minus_mono_ns": 7}, {"boot_minus_mono_ns": 3_000_000_007}, {"boot_minus_mono_ns": 9},
            "(3 s)",
        ),
        ("throttled", {"cpu_mhz": 3000.0}, {"cpu_mhz": 2000.0}, {"cpu_mhz": 2990.0}, "CPU 3000 to 2000 MHz"),
        (
            "throttled", {}, {"clock_event_reasons": ["sw_thermal_slowdown"]}, {"clock_event_reasons": ["gpu_idle"]},
            "sw_thermal_slowdown",
        ),
        ("gpu_contention", {}, {"gpu_foreign_processes": 2}, {"gpu_foreign_processes": 0}, "beside other processes"),
    ],
)  # fmt: skip
def test_conditions_of_the_machine_are_found_cleared_or_said_to_be_unknown(
    tmp_path: Path, code: str, before: dict[str, Any], bad: dict[str, Any], good: dict[str, Any], words: str
) -> None:
    assert words in codes(with_facts(tmp_path / "bad", before, bad))[code]
    assert code in with_facts(tmp_path / "good", before, good).threats.clear
    unknown = with_facts(tmp_path / "unknown", {}, {}).threats
    assert code in unknown.not_checked
    assert code not in unknown.clear


@pytest.mark.parametrize(
    ("begin_ms", "end_ms", "blocks", "words"),
    [
        (1.0, 2501.0, False, "the ranks went on"),
        (0.25, 0.75, True, "may have been frozen"),
        (10**7, 2 * 10**7, False, "the ranks went on"),  # after the end
    ],
)
def test_a_pause_of_ecrl_warns_and_blocks_where_nothing_was_recorded_meanwhile(
    tmp_path: Path, begin_ms: float, end_ms: float, blocks: bool, words: str
) -> None:
    def change(_run: RunSpec, found: RunRecord) -> RunRecord:
        spawned = found.launcher[0]["t"]
        t0, t = (spawned + round(ms * 1e6) for ms in (begin_ms, end_ms))
        found.launcher.insert(1, {"e": "paused", "t0": t0, "t": t})
        return found

    report = build_evidence(load_campaign(campaign(tmp_path, seeds=[1], change=change))).threats
    [threat] = [threat for threat in report.found if threat.code == "suspended"]
    assert (threat.blocking, words in threat.evidence) == (blocks, True)


def test_steal_is_the_share_of_processor_time_between_both_ends_of_a_run(tmp_path: Path) -> None:
    before = {"load1": 1.0, "psi_cpu_some_avg10": 0.0, "cpu_steal_s": 5.0, "cpu_total_s": 1000.0}
    after = {"cpu_steal_s": 8.0, "cpu_total_s": 1100.0}
    found = with_facts(tmp_path / "stolen", before, after)
    assert "the hypervisor took processor time from 6 runs of 6 (3.0% in" in codes(found)["cpu_contention"]
    quiet = with_facts(tmp_path / "quiet", before, {"cpu_steal_s": 5.5, "cpu_total_s": 1100.0}).threats
    assert "cpu_contention" in quiet.clear


def test_what_only_a_gpu_can_meet_does_not_apply_to_runs_on_the_cpu(tmp_path: Path) -> None:
    report = with_facts(tmp_path, {"cpu_mhz": 3000.0}, {"cpu_mhz": 3000.0}, device="cpu").threats
    assert report.not_applicable["gpu_contention"] == "every run used the CPU"
    assert "throttled (clock_event_reasons)" in report.not_applicable
    assert "throttled" in report.clear
    assert not {"gpu_contention", "throttled (clock_event_reasons)"} & {*report.clear, *report.not_checked}


def test_facts_that_no_run_recorded_are_named_beside_the_check_that_wants_them(tmp_path: Path) -> None:
    report = with_facts(tmp_path, {"load1": 0.0}, {}).threats
    assert (
        report.not_checked["mixed_environment (torch, git, driver, gpu_uuids, environment)"]
        == "not recorded by any run"
    )
    assert "cpu_contention (psi_cpu_some_avg10, cpu_steal_s)" in report.not_checked
    assert "cpu_contention" in report.clear


def test_a_block_whose_variants_ran_in_different_sessions_is_not_interleaved(tmp_path: Path) -> None:
    def later(run: RunSpec, found: RunRecord) -> RunRecord:
        """Everything of the block's last run happens an hour later."""
        if run.block_position != 2:
            return found
        shift = 3600 * 10**9
        moved = {
            key: [{k: v + shift if k.startswith("t") and isinstance(v, int) else v for k, v in e.items()} for e in own]
            for key, own in {**found.events, (-1, -1): found.launcher}.items()
        }
        return replace(found, launcher=moved.pop((-1, -1)), events=moved)

    found = build_evidence(load_campaign(campaign(tmp_path, seeds=[1], datasets=["fashion-mini"], change=later)))
    assert "different sessions (1)" in codes(found)["not_interleaved"]
    whole = build_evidence(load_campaign(campaign(tmp_path / "whole", seeds=[1], datasets=["fashion-mini"])))
    assert "not_interleaved" not in codes(whole)
    assert whole.threats.not_checked["not_interleaved"] == "1 block: three are needed"


# -- rates and the bootstrap ----------------------------------------------------------------------------------


def recoveries(**outcomes: Sequence[bool | None]) -> list[Row]:
    return [
        empty_row(
            suite_id="s", seed=seed, variant=variant, failures_fired=1, correct=good,
            outcome="failed" if good is None else "completed",
        )
        for variant, own in outcomes.items()
        for seed, good in enumerate(own)
    ]  # fmt: skip


def test_paired_recoveries_are_compared_by_the_exact_mcnemar_test() -> None:
    a, b = [True] * 9 + [False], [True] * 3 + [False] * 4 + [None, True, True]
    found = compare_recovery(recoveries(a=a, b=b), "a", "b")
    assert found is not None
    assert (found.test, found.discordant, found.correct_a, found.correct_b) == ("McNemar", (5, 1), 9, 5)
    assert found.p == pytest.approx(mcnemar([[4, 5], [1, 0]], exact=True).pvalue)
    assert mcnemar_p(0, 0) == 1


def test_unpaired_recoveries_are_compared_by_fishers_exact_test() -> None:
    found = compare_recovery(recoveries(a=[True] * 8, b=[True, False, False, False]), "a", "b")
    assert found is not None
    assert (found.test, found.discordant) == ("Fisher", None)
    assert found.p == pytest.approx(0.018182, abs=1e-5)
    assert compare_recovery(recoveries(a=[True]), "a", "b") is None


def test_the_bootstrap_interval_is_repeatable_and_near_the_mean() -> None:
    values = [0.01, 0.03, -0.02, 0.05, 0.04, 0.02]
    low, high = bca_interval([values])
    assert bca_interval([values]) == (low, high)
    assert low is not None
    assert high is not None
    assert -0.02 < low < sum(values) / 6 < high < 0.05
    assert bca_interval([values[:2]]) == bca_interval([[1.0, 1.0, 1.0]]) == (None, None)
    suites = bca_interval([values, [0.11, 0.13, 0.08, 0.15, 0.14, 0.12]])
    assert suites[0] is not None
    assert suites[1] is not None
    assert suites[1] - suites[0] < high - low, "the suites differ, and nothing is drawn from one into the other"


@pytest.mark.parametrize(("n", "percent"), [(10, 72.2), (40, 91.2), (100, 96.3), (160, 97.7), (200, 98.1)])
def test_wilson_lower_bounds_of_all_successes(n: int, percent: float) -> None:
    assert wilson(n, n)[0] * 100 == pytest.approx(percent, abs=0.06)
