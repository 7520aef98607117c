"""Environment variables that differ between runs, by name; runs of older versions have not recorded them."""

from pathlib import Path

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import build_evidence
from ecrl.analysis.threats.machine import _find_differing_facts
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import campaign


def test_the_variables_that_differ_are_named() -> None:
    runs = [
        {"host": "a", "environment": {"NCCL_DEBUG": "INFO", "KMP_AFFINITY": "none"}},
        {"host": "a", "environment": {"NCCL_DEBUG": "WARN", "KMP_AFFINITY": "none"}},
    ]
    assert _find_differing_facts(runs) == ["NCCL_DEBUG"]
    assert _find_differing_facts([{"environment": {}}, {"environment": {"LD_PRELOAD": "x"}}]) == ["LD_PRELOAD"]


def test_a_run_that_did_not_record_them_differs_in_nothing() -> None:
    assert _find_differing_facts([{"host": "a"}, {"host": "a", "environment": {"NCCL_DEBUG": "INFO"}}]) == []
    assert _find_differing_facts([]) == []


def test_disks_are_a_mixed_environment_between_blocks_unless_an_axis_compares_them(tmp_path: Path) -> None:
    def place(run: RunSpec, found: RunRecord) -> RunRecord:
        if found.result is not None:
            found.result["machine"]["checkpoint_disk"] = run.checkpoint.dir or run.dataset
        return found

    def told(paths: CampaignPaths) -> list[str]:
        found = build_evidence(load_campaign(paths)).threats.found
        return [threat.evidence for threat in found if threat.code == "mixed_environment"]

    assert told(campaign(tmp_path, change=place)) == ["between blocks: checkpoint_disk differ"]
    axes = '[axes]\n"checkpoint.dir" = ["/mnt/a", "/mnt/b"]'
    assert told(campaign(tmp_path, "axis", datasets=["fashion-mini"], more=axes, change=place)) == []
