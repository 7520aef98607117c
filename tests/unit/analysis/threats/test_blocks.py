"""What within blocks weakens a conclusion: unbalanced orders, sessions, unequal numbers of failures."""

import itertools
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import LoadedCampaign, load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.threats.base import Threat
from ecrl.config.run import RunSpec
from tests.unit.analysis.campaign_builder import campaign

IN_ORDER = ("reference", "blocking", "overlapped")
TURNED = IN_ORDER[::-1]
ALL = list(itertools.permutations(IN_ORDER))


def arrange(
    found: LoadedCampaign, orders: Sequence[tuple[str, ...]], drift: float, factors: Mapping[str, float] | None = None
) -> Evidence:
    """The evidence if blocks had run in these orders, each run by `drift` faster than the one before it."""
    noise = random.Random(7)
    blocks: dict[tuple[str, int], int] = {}
    for run in found.runs:
        blocks.setdefault((run.row["suite_id"], run.row["seed"]), len(blocks))
    runs = []
    for run in found.runs:
        order = orders[blocks[run.row["suite_id"], run.row["seed"]] % len(orders)]
        place, variant = order.index(run.row["variant"]), run.row["variant"]
        goodput = (factors or {}).get(variant, 1.0) * (1 + drift) ** place * (1 + noise.gauss(0, 0.003))
        runs.append(
            replace(run, row=run.row | {"goodput_steps_per_s": goodput}, facts=run.facts | {"block_order": order})
        )
    return build_evidence(replace(found, runs=tuple(runs)))


@pytest.fixture
def twelve(tmp_path: Path) -> LoadedCampaign:
    """Twelve blocks."""
    return load_campaign(campaign(tmp_path, seeds=range(1, 7)))


def find(found: Evidence, code: str) -> list[Threat]:
    return [threat for threat in found.threats.found if threat.code == code]


def test_eleven_of_twelve_blocks_in_one_order_under_a_drift_confirm_nothing(twelve: LoadedCampaign) -> None:
    found = arrange(twelve, [IN_ORDER] * 11 + [TURNED], 0.02)
    (threat,) = [one for one in find(found, "not_interleaved") if one.variants == ("blocking", "overlapped")]
    assert threat.blocking
    assert "-0.83 places later on average (12 blocks)" in threat.evidence
    assert "regression of the log goodput ratio on that: +0.0" in threat.evidence
    assert found.claims[0].verdict not in ("CONFIRMED", "REFUTED")


def test_the_same_drift_is_no_threat_where_the_orders_are_balanced(twelve: LoadedCampaign) -> None:
    found = arrange(twelve, ALL, 0.02)
    assert find(found, "not_interleaved") == []
    assert "not_interleaved" in found.threats.clear


def test_an_effect_that_no_such_drift_makes_is_judged_in_spite_of_the_order(twelve: LoadedCampaign) -> None:
    found = arrange(twelve, [IN_ORDER] * 11 + [TURNED], 0.0, {"overlapped": 1.5})
    assert ("blocking", "overlapped") not in [one.variants for one in find(found, "not_interleaved")]
    assert found.claims[0].verdict == "CONFIRMED"


def test_a_variant_that_always_ran_last_cannot_be_told_from_a_drift(twelve: LoadedCampaign) -> None:
    """As the one that an extension adds."""
    found = arrange(twelve, [IN_ORDER, ("blocking", "reference", "overlapped")], 0.0, {"overlapped": 1.003})
    pairs = {one.variants for one in find(found, "not_interleaved")}
    assert pairs == {("reference", "overlapped"), ("blocking", "overlapped")}


def test_a_pair_whose_places_never_change_shows_no_drift_however_large_the_effect(twelve: LoadedCampaign) -> None:
    found = arrange(twelve, [IN_ORDER, ("blocking", "overlapped", "reference")], 0.0, {"overlapped": 1.5})
    (threat,) = [one for one in find(found, "not_interleaved") if one.variants == ("blocking", "overlapped")]
    assert "cannot be measured" in threat.evidence


def test_all_blocks_in_one_order_concern_every_claim(twelve: LoadedCampaign) -> None:
    (threat,) = find(arrange(twelve, [IN_ORDER], 0.0), "not_interleaved")
    assert (threat.blocking, threat.variants) == (True, ())
    assert "all 12 blocks ran in one order" in threat.evidence


def test_two_blocks_show_nothing_of_a_drift(tmp_path: Path) -> None:
    two = load_campaign(campaign(tmp_path, seeds=[1]))
    found = arrange(two, [IN_ORDER], 0.02)
    assert find(found, "not_interleaved") == []
    assert found.threats.not_checked["not_interleaved"] == "2 blocks: three are needed"


def test_a_long_second_run_within_a_block_makes_no_two_sessions_of_it(tmp_path: Path) -> None:
    hour = 3600 * 10**9
    paths = campaign(tmp_path, seeds=[1, 2, 3], datasets=["fashion-mini"])

    def shift(folder: Path, by: int) -> None:
        for path in folder.glob("events-*.jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            moved = [{k: v + by if k in ("t", "t0", "t_slot", "t_staged") else v for k, v in e.items()} for e in lines]
            path.write_text("".join(json.dumps(one) + "\n" for one in moved))

    folders = sorted(paths.suites.glob("*/*/seed3"), key=lambda one: RunSpec.read(one / "run.json").block_position)
    second = folders[0].parent.parent / f"{folders[0].parent.name}-aa" / "seed3"
    shutil.copytree(folders[0], second)
    shift(second, 20 * 10**9)
    launcher = [json.loads(line) for line in (second / "events-launcher.jsonl").read_text().splitlines()]
    launcher[-1]["t"] += hour
    (second / "events-launcher.jsonl").write_text("".join(json.dumps(one) + "\n" for one in launcher))
    for folder in folders[1:]:
        shift(folder, hour + 40 * 10**9)
    found = build_evidence(load_campaign(paths))
    assert len(found.again) == 1
    assert find(found, "not_interleaved") == []
    shutil.rmtree(second)
    (threat,) = find(build_evidence(load_campaign(paths)), "not_interleaved")
    assert "different sessions (1)" in threat.evidence


def test_unequal_numbers_of_failures_in_a_block_concern_its_pair(twelve: LoadedCampaign) -> None:
    def strike(variant: str, seed: int, number: int) -> LoadedCampaign:
        return replace(
            twelve,
            runs=tuple(
                replace(run, row=run.row | {"failures_fired": number}) if run.key[1:] == (variant, seed) else run
                for run in twelve.runs
            ),
        )

    (threat,) = find(build_evidence(strike("blocking", 2, 3)), "unequal_failures")
    assert (threat.blocking, threat.variants) == (True, ("blocking", "overlapped"))
    assert "in 2 blocks" in threat.evidence
    assert "seed2: 3 and 1" in threat.evidence
    for untouched in (twelve, strike("reference", 2, 0)):
        found = build_evidence(untouched)
        assert find(found, "unequal_failures") == []
        assert "unequal_failures" in found.threats.clear


def test_without_failures_or_with_one_engine_none_can_be_unequal(tmp_path: Path) -> None:
    alone = build_evidence(load_campaign(campaign(tmp_path / "one", variants=["reference", "blocking"], claims="")))
    assert alone.threats.not_checked["unequal_failures"] == "one engine"
    calm = build_evidence(load_campaign(campaign(tmp_path / "calm", failures="none = []")))
    assert calm.threats.not_applicable["unequal_failures"] == "no failure is planned"
