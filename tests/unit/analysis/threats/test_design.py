"""What in the design of a campaign, or in what is left of it, weakens a conclusion."""

from collections.abc import Collection
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.threats.base import Threat
from ecrl.config.run import RunSpec
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import CLAIM, campaign


def lose(folder: Path, lost: Collection[tuple[str, int]], prefix: str = "exp") -> Evidence:
    """The evidence of a campaign in which these runs (variant, seed) of the first suite failed."""

    def fail(run: RunSpec, found: RunRecord) -> RunRecord:
        if (run.variant, run.seed) in lost and run.dataset == "fashion-mini" and found.result is not None:
            found.result |= {"outcome": "failed", "reason": "out of memory"}
        return found

    return build_evidence(load_campaign(campaign(folder, prefix, change=fail)))


def find(evidence: Evidence, code: str) -> list[Threat]:
    return [threat for threat in evidence.threats.found if threat.code == code]


@pytest.mark.parametrize(
    ("lost", "blocks"),
    [
        ([("overlapped", 1)], True),
        ([("overlapped", 1), ("blocking", 2)], False),
        ([("overlapped", 1), ("overlapped", 2), ("blocking", 3)], True),
        ([("overlapped", 1), ("blocking", 1)], False),
        ([("reference", 1)], False),
    ],
)
def test_blocks_that_one_variant_loses_more_often_are_not_missing_at_random(
    tmp_path: Path, lost: list[tuple[str, int]], blocks: bool
) -> None:
    [threat] = find(lose(tmp_path, lost), "missing_blocks")
    assert threat.blocking == blocks
    assert ("only overlapped is to blame for" in threat.evidence) == blocks


def test_seeds_of_which_one_is_left_are_one_seed(tmp_path: Path) -> None:
    def fail(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return found if run.seed == 1 or run.variant == "reference" else None

    found = build_evidence(load_campaign(campaign(tmp_path, change=fail)))
    [threat] = [one for one in find(found, "one_seed") if one.variants == ("blocking", "overlapped")]
    assert threat.blocking
    assert "every whole block has seed 1" in threat.evidence
    assert not find(build_evidence(load_campaign(campaign(tmp_path, "whole"))), "one_seed")


@pytest.mark.parametrize(
    "claims", [CLAIM.replace("1.00", "1.001"), f"{CLAIM}smallest = 0.02\n", CLAIM.replace("pays", "is best")]
)
def test_the_same_question_with_another_bound_plan_or_name_is_a_sibling(tmp_path: Path, claims: str) -> None:
    campaign(tmp_path, "a", claims=claims)
    found = load_campaign(campaign(tmp_path, "b"))
    assert found.siblings == {"overlapping pays": ("a", "b")}
