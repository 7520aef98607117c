import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import REPEAT_VARIANT, LoadedCampaign, load_campaign
from ecrl.analysis.campaign.pool import differences, pool
from ecrl.analysis.claims.before_after import compare_before_after, match_suites
from ecrl.analysis.claims.noise import measure_noise
from ecrl.analysis.evidence import build_evidence
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import CLAIM, Change, campaign


def other_torch(_run: RunSpec, found: RunRecord) -> RunRecord:
    assert found.result is not None
    found.result["machine"]["torch"] = "2.10"
    return found


def quicker(run: RunSpec, found: RunRecord) -> RunRecord:
    """Every run ends 10 ms earlier for each step of its seed, which no other campaign's does."""
    found.launcher[-1]["t"] -= run.seed * 10_000_000
    return found


def two(
    tmp_path: Path, change: Change = lambda _, found: found, **options: Any
) -> tuple[LoadedCampaign, LoadedCampaign]:
    """Campaign a with seeds 1 to 3 and campaign b, changed, with seeds 4 to 6 unless told otherwise."""
    a = campaign(tmp_path, "a")
    b = campaign(tmp_path, "b", change=change, **{"seeds": (4, 5, 6), **options})
    return load_campaign(a), load_campaign(b)


def test_campaigns_of_one_machine_and_matrix_pool_in_either_order(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    found = pool([b, a])
    assert found == pool([a, b])
    assert (found.prefix, found.matrix.matrix.seeds, found.mixed) == ("a+b", [1, 2, 3, 4, 5, 6], ())
    assert len(found.suites) == 2
    assert len(found.runs) == 2 * 6 * 3
    assert len({run.key for run in found.runs}) == len(found.runs)
    evidence = build_evidence(found)
    [judged] = evidence.claims
    assert (judged.n_pairs, judged.looks) == (12, 2)
    assert (judged.verdict, judged.would_be) == ("INCONCLUSIVE", "INCONCLUSIVE")
    assert evidence.claims == build_evidence(pool([a, b])).claims
    assert "pooled_campaigns" in {threat.code for threat in evidence.threats.found}
    assert evidence.siblings == {"overlapping pays": ("a", "b")}


def test_a_campaign_that_tests_the_claim_on_the_suites_of_one_of_two_is_named(tmp_path: Path) -> None:
    for prefix, dataset in (("a", "fashion-mini"), ("b", "cifar10"), ("again", "fashion-mini")):
        campaign(tmp_path, prefix, datasets=[dataset])
    found = pool([load_campaign(CampaignPaths(tmp_path, prefix)) for prefix in ("a", "b")])
    assert set(found.siblings["overlapping pays"]) == {"a", "b", "again"}


def test_a_prefix_that_sorts_first_does_not_come_first(tmp_path: Path) -> None:
    """The blocks that were registered first are those of the campaign that was frozen first, whatever its name."""
    a, b = two(tmp_path)
    found = pool([replace(a, frozen_at="2026-02-02"), replace(b, frozen_at="2026-01-01")])
    assert found.prefix == "a+b"
    assert {found.registration.generations[run.key] for run in found.runs if run.facts["campaign"] == "b"} == {0}


def test_a_block_that_two_campaigns_ran_is_refused_under_any_label(tmp_path: Path) -> None:
    a, b = two(tmp_path, seeds=(3, 4))
    for campaigns in ([a, b], [b, a]):
        with pytest.raises(EcrlError, match=r"a and b both ran \S+/seed3: a block counts once") as refused:
            pool(campaigns, mix=True)
        assert refused.value.code == "ECRL-708"
    other = load_campaign(campaign(tmp_path, "c", seeds=(3, 4), failures="elsewhere = [6]"))
    with pytest.raises(EcrlError, match=r"a and c both ran \S+elsewhere\S+/seed3 \(in a: \S+inside\S+/seed3\)"):
        pool([a, other], mix=True)


def test_a_block_that_only_one_of_two_campaigns_ran_comes_from_that_one(tmp_path: Path) -> None:
    def only_first(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return found if run.seed == 1 else None

    a = load_campaign(campaign(tmp_path, "a", change=only_first))
    b = load_campaign(campaign(tmp_path, "b", change=lambda run, found: None if run.seed == 1 else found))
    found = pool([a, b])
    assert {(run.row["seed"], run.facts["campaign"]) for run in found.runs} == {(1, "a"), (2, "b"), (3, "b")}
    assert found.registration.pending == ()


def test_what_differs_is_refused_by_name_and_allowed_only_in_words(tmp_path: Path) -> None:
    campaigns = two(tmp_path, other_torch)
    with pytest.raises(EcrlError, match=r"torch: a has nothing recorded, b has 2\.10(.|\n)*--mix") as refused:
        pool(campaigns)
    assert str(refused.value).count("\n") <= 2
    found = pool(campaigns, mix=True)
    assert found.mixed == ("torch: a has nothing recorded, b has 2.10",)
    threats = {threat.code: threat for threat in build_evidence(found).threats.found}
    assert "torch: a has nothing" in threats["pooled_campaigns"].evidence


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"claims": ""}, "claims: a has overlapping pays"),
        ({"claims": CLAIM.replace("1.00", "1.10")}, "ratio > 1.10"),
        ({"variants": ("overlapped", "blocking")}, "variants: a has blocking, overlapped, reference, b has blocking"),
    ],
)
def test_matrices_must_agree_in_all_but_their_axes(tmp_path: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(EcrlError, match=re.escape(named)):
        pool(two(tmp_path, **options))


def test_axes_may_differ_and_one_campaign_is_not_pooled_with_itself(tmp_path: Path) -> None:
    a, b = two(tmp_path, datasets=("cifar100",), seeds=(1,))
    assert differences([a, b]) == []
    assert len(pool([a, b]).suites) == 3
    with pytest.raises(EcrlError, match="found one twice"):
        pool([a, a])


def test_claims_that_changed_between_campaigns_are_exploratory_when_mixed(tmp_path: Path) -> None:
    found = pool(two(tmp_path, claims=CLAIM.replace("1.00", "1.10")), mix=True)
    assert {judged.verdict for judged in build_evidence(found).claims} == {"EXPLORATORY"}


def test_next_runs_of_a_pool_name_campaigns_that_exist(tmp_path: Path) -> None:
    def without_blocking(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return None if run.variant == "blocking" else found

    found = build_evidence(pool(two(tmp_path, without_blocking)))
    commands = [one.command for one in found.next_runs if one.command]
    assert "ecrl matrix resume --prefix b --retry-failed" in commands
    assert not any("a+b" in command for command in commands)


def test_before_and_after_are_paired_by_suite_and_seed(tmp_path: Path) -> None:
    a, b = two(tmp_path, quicker, seeds=(1, 2, 3))
    found = compare_before_after(a, b, "wall_s")["blocking"].own
    assert (found.a, found.b, found.kind, len(found.pairs)) == ("b", "a", "ratio", 6)
    assert {round(pair.b - pair.a, 6) for pair in found.pairs} == {0.01, 0.02, 0.03}
    assert found.overall is not None
    assert found.overall.center < 1
    difference = compare_before_after(a, b, "stall_s")["blocking"].own
    assert difference.kind == "difference"
    assert difference.overall is not None
    assert difference.overall.center == pytest.approx(0)


def test_a_seed_that_only_one_of_them_has_is_listed(tmp_path: Path) -> None:
    found = compare_before_after(*two(tmp_path, seeds=(3, 4, 5)), "goodput_steps_per_s")["overlapped"].own
    assert [pair.seed for pair in found.pairs] == [3, 3]
    assert len(found.missing) == 8


def test_suites_whose_settings_changed_are_known_by_their_name(tmp_path: Path) -> None:
    a, b = two(tmp_path)
    renamed = {f"{suite_id[:-8]}00000000": suite_id for suite_id in (suite.suite_id for suite in a.suites)}

    class Renamed:
        def __init__(self, suite_id: str) -> None:
            self.suite_id = suite_id

    other = LoadedCampaign("b", b.matrix, tuple(map(Renamed, renamed)), (), {}, {}, ())  # type: ignore[arg-type]
    assert match_suites(a, other) == renamed


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a, b = two(tmp_path, datasets=("cifar100",))
    with pytest.raises(EcrlError, match="no suite in common"):
        compare_before_after(a, b, "goodput_steps_per_s")
    with pytest.raises(EcrlError, match="unknown metric 'goodput'"):
        compare_before_after(a, a, "goodput")


def test_a_second_reference_is_compared_with_the_first_of_its_own_campaign_only(tmp_path: Path) -> None:
    a, b = two(tmp_path, quicker)

    def again(found: LoadedCampaign) -> LoadedCampaign:
        """Every reference of the campaign twice, to the same microsecond."""
        first = [run for run in found.runs if run.row["variant"] == REFERENCE]
        return replace(found, again=tuple(replace(run, row=run.row | {"variant": REPEAT_VARIANT}) for run in first))

    found = measure_noise(pool([a, again(b)]))
    assert found is not None
    assert {pair.seed for pair in found.comparison.pairs} == {4, 5, 6}  # those of b; a has no second reference
    assert found.sd == 0
