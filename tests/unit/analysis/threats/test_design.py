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


def on_disks(folder: Path, disks: dict[str, str], prefix: str = "exp") -> Evidence:
    """The evidence of a campaign whose runs of each variant had their checkpoints on this disk."""

    def place(run: RunSpec, found: RunRecord) -> RunRecord:
        if found.result is not None:
            found.result["machine"]["checkpoint_disk"] = disks[run.variant]
        return found

    return build_evidence(load_campaign(campaign(folder, prefix, change=place)))


def test_runs_of_one_block_on_two_disks_are_no_comparison(tmp_path: Path) -> None:
    disks = dict.fromkeys(("reference", "blocking", "overlapped"), "ext4 /dev/a on /")
    same = on_disks(tmp_path, disks)
    assert not find(same, "mixed_environment")
    assert same.machine["checkpoint_disk"] == ["ext4 /dev/a on /"]
    differs = on_disks(tmp_path, disks | {"overlapped": "nfs4 s:/x on /mnt"}, prefix="two")
    inside = [threat for threat in find(differs, "mixed_environment") if threat.blocking]
    assert inside
    assert "checkpoint_disk differ" in inside[0].evidence
    assert differs.machine["checkpoint_disk"] == ["ext4 /dev/a on /", "nfs4 s:/x on /mnt"]


def test_checkpoints_that_went_to_a_fallback_are_counted_and_warned_of(tmp_path: Path) -> None:
    def reroute(run: RunSpec, found: RunRecord) -> RunRecord:
        if run.variant == "overlapped" and run.seed == 1:
            for events in found.events.values():
                events.insert(1, {"e": "rerouted", "t": events[0]["t"], "s": 4, "reason": "full", "to": "/b"})
        return found

    [threat] = find(build_evidence(load_campaign(campaign(tmp_path, change=reroute))), "checkpoints_rerouted")
    assert not threat.blocking
    assert "went to a fallback" in threat.evidence
    assert "overlapped/seed1 (2)" in threat.evidence, "once in each attempt"
