"""What a report says: its sections, and its sentences only where the numbers support them."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ecrl import plugins
from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.campaign.tables import build_detailed_frame, build_summary_frame, format_csv
from ecrl.analysis.evidence import Evidence
from ecrl.config.run import RunSpec
from ecrl.experiments.training.report import PLUGIN
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import Change, campaign
from tests.unit.report.pages.reports import evidence, prose, report_of

TITLES = [
    "Answer",
    "Scope and setup", "Integrity and recovery correctness", "Main quantitative results", "Where the time went",
    "Interpretation", "Claims", "Multiverse", "Registration", "Threats to validity",
    "Minimal next runs", "Artifact index",
]  # fmt: skip


@pytest.mark.parametrize("name", plugins.names("report section"))
def test_every_section_has_a_title_a_place_and_something_to_say_about_anything(
    name: str, whole: Evidence, empty: Evidence, foreign: Evidence
) -> None:
    section = plugins.load("report section", name)
    assert section.title
    for found in (whole, empty, foreign):
        assert section.blocks(found, {})


def test_sections_stand_in_the_order_of_the_contract(written: Path) -> None:
    assert [section.title for section in PLUGIN.list_sections()] == TITLES
    assert re.findall(r"^## \d+\. (.*)$", (written / "exp_report.md").read_text(), re.M) == TITLES


def test_launchers_stand_in_lines_and_columns_of_their_own(tmp_path: Path, whole: Evidence) -> None:
    found = evidence(campaign(tmp_path, datasets=["fashion-mini"], launchers=["cold", "warm"], seeds=[1, 2]))
    assert [str(arm) for arm in found.arms][:4] == [
        "reference, cold",
        "blocking, cold",
        "overlapped, cold",
        "reference, warm",
    ]
    text = report_of(found, tmp_path)
    for arm in found.arms:
        assert f"| {arm} " in text
        assert f"{arm} (s)" in text
    assert "### By launcher" in text
    ranking = next(line for line in text.splitlines() if line.startswith("|   # |"))
    assert "| launcher |" in ranking
    assert ">blocking, warm<" in (tmp_path / "plots" / "restarts.svg").read_text()
    assert ">blocking, warm<" in (tmp_path / "plots" / "ledger.svg").read_text()
    for frame in (found.frame, build_summary_frame(found.frame), build_detailed_frame(found.frame, found.dropped)):
        values = {row["launcher"] for row in csv.DictReader(format_csv(frame).splitlines())}
        assert values == {"cold", "warm"}
    # one launcher is the rule: it is named once, in the table of suites
    assert [str(arm) for arm in whole.arms] == ["reference", "blocking", "overlapped"]
    assert "By launcher" not in prose(whole)


def test_costs_of_warm_and_cold_runs_are_never_averaged(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, datasets=["fashion-mini"], launchers=["cold", "warm"], seeds=[1]))
    assert {costs.workload.launcher for costs in engine_costs(found.runs)} == {"cold", "warm"}
    assert {suite for c in (found.compare("overlapped", "blocking"),) for suite in c.suites} == set(found.suites)


def test_prose_claims_an_effect_only_where_the_numbers_support_it(whole: Evidence, small: Evidence) -> None:
    text = prose(whole)
    assert "a gain larger than its standard error allows for chance, for these suites" in text
    assert "| **CONFIRMED for these 2 suites, noise not measured** |" in text
    text = prose(small)
    assert "This is a direction, not a finding: 6 pairs are the least" in text
    assert "All runs share one seed (1337)" in text
    assert "over 2 suites, seed 1337: " in text
    assert "2 suites cannot show how an effect varies between workloads" in text
    for word in ("larger than its standard", "beyond noise", "consistent", "each suite has", "**CONFIRMED"):
        assert word not in text


def test_a_campaign_with_failed_and_missing_runs_still_has_a_report_that_names_them(tmp_path: Path) -> None:
    paths = campaign(tmp_path, change=lambda run, found: None if (run.variant, run.seed) == ("blocking", 2) else found)
    result = next(paths.root.glob("suites/*/overlapped/seed1/result.json"))
    raw = json.loads(result.read_text()) | {"outcome": "failed", "reason": "rank 1 died of OOM"}
    result.write_text(json.dumps(raw))
    text = prose(evidence(paths))
    assert "blocking/seed2` is missing: never started: there is no run.json." in text
    assert "overlapped/seed1` is failed: rank 1 died of OOM. Log: `suites/" in text
    assert "### Blocks that no comparison uses" in text
    assert "ecrl matrix resume --prefix exp --retry-failed" in text


def fails_to_keep(steps: Sequence[int]) -> Change:
    """`overlapped` with seed 1 keeps none of the checkpoints of these steps."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if (run.variant, run.seed) == ("overlapped", 1):
            for events in found.events.values():
                for event in list(events):
                    if event["e"] == "committed" and event["s"] in steps:
                        events.remove(event)
                    elif event["e"] == "persisted" and event["s"] in steps:
                        event |= {"e": "persist_failed", "reason": "rank 0: No space left on device"}
        return found

    return change


def test_checkpoints_that_could_not_be_kept_are_counted_named_and_held_against_claims(tmp_path: Path) -> None:
    found = evidence(campaign(tmp_path, change=fails_to_keep([8])))
    [threat] = [threat for threat in found.threats.found if threat.code == "checkpoints_not_kept"]
    assert threat.blocking  # one of three
    assert "overlapped/seed1 (33%)" in threat.evidence
    text = prose(found)
    # 12 runs with checkpoints, each asks for 4, 8 and 12
    assert "36 checkpoints asked for = 34 committed + 2 that could not be kept + 0 that a failure" in text
    assert "checkpoint 8 could not be kept: rank 0: No space left on device" in text


def test_an_empty_campaign_has_a_report_that_says_so(empty: Evidence, tmp_path: Path) -> None:
    text = report_of(empty, tmp_path)
    assert "0 of 18 runs completed" in text
    assert "No run completed, so there is no result." in text


@pytest.mark.parametrize("variants", [["overlapped"], ["reference", "overlapped"]])
def test_one_suite_with_one_engine_has_a_report(tmp_path: Path, variants: list[str]) -> None:
    paths = campaign(tmp_path, variants=variants, seeds=[1], datasets=["cifar10"], claims="")
    text = report_of(evidence(paths), tmp_path / "out")
    assert ("nothing to compare it with" in text) == (len(variants) == 1)
    assert "## 3. Main quantitative results" in text


def test_a_table_from_elsewhere_has_the_same_sections(foreign: Evidence, tmp_path: Path) -> None:
    text = report_of(foreign, tmp_path)
    assert re.findall(r"^## \d+\. (.*)$", text, re.M) == TITLES
    assert "What this table cannot support" in text
    assert "No ledger: the time of the runs was not recorded by phase." in text
    assert "signed: mean 0, mean absolute 0.0015" in text
    assert "| cifar10 " in text


def test_the_report_holds_predicted_against_measured_goodput(whole: Evidence) -> None:
    text = prose(whole)
    assert text.index("## Predicted against measured goodput") > text.index("### Failures")
    assert "its stall plus the mean interference, also where that is not told from 0" in text
    assert re.search(r"Mean error, with its sign: blocking [-+]\d\.\d\d %, overlapped [-+]\d\.\d\d %\.", text)
