"""`<prefix>_report.json`: every number is one of the report's, with its definition, its blocks and its files."""

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import GOODPUT, Evidence, build_evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.analysis.statistics.compare import Effect
from ecrl.config.run import RunSpec
from ecrl.records.paths import CampaignPaths
from ecrl.records.reader import RunRecord
from ecrl.report.pages.provenance import build_document, build_text
from ecrl.report.text.numbers import effect, number
from ecrl.report.text.variant_rows import build_variant_table
from tests.unit.analysis.campaign_builder import CLAIM, campaign
from tests.unit.analysis.external_table.test_table import ROWS, table
from tests.unit.cli.inline import run_inline

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
RATE = """[[claims]]
name = "always right"
of = "overlapped"
metric = "correct"
expect = "rate > 0.5"
"""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> CampaignPaths:
    """A campaign in which a run of blocking failed."""

    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        if (run.variant, run.seed, run.dataset) == ("blocking", 2, "cifar10"):
            assert found.result is not None
            found.result["outcome"] = "failed"
        return found

    return campaign(tmp_path_factory.mktemp("results"), claims=CLAIM + RATE, change=change)


@pytest.fixture(scope="module")
def evidence(paths: CampaignPaths) -> Evidence:
    return build_evidence(load_campaign(paths))


@pytest.fixture(scope="module")
def document(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(build_text(evidence))
    return found


def find(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["numbers"] if one["name"] == name]
    return dict(found)


def test_the_main_comparison_has_the_reports_value_interval_and_blocks(
    document: dict[str, Any], evidence: Evidence
) -> None:
    c = evidence.compare("overlapped", "blocking")
    assert c.overall is not None
    found = find(document, f"overlapped / blocking: {GOODPUT}")
    assert (found["value"], found["low"], found["high"]) == (c.overall.center, c.overall.low, c.overall.high)
    blocks = {(block["suite"], block["seed"]) for block in document["block_sets"][found["blocks"]]}
    assert blocks == {(pair.suite_id, pair.seed) for pair in c.pairs}
    assert len(blocks) == 5
    assert found["variants"] == ["overlapped", "blocking"]


def test_a_number_that_needs_the_reference_names_it(document: dict[str, Any]) -> None:
    assert find(document, "overlapped - blocking: interference_s")["variants"] == [
        "overlapped",
        "blocking",
        "reference",
    ]
    assert find(document, "overlapped: stall_s")["variants"] == ["overlapped"]


def test_levels_are_those_of_the_runs(document: dict[str, Any], evidence: Evidence) -> None:
    """The mean over suites: a suite of which a run failed weighs as much as the other."""
    suites = evidence.suites
    own = [row for row in evidence.rows if row["variant"] == "blocking" and row["outcome"] == "completed"]
    assert len(own) == 5
    for name, above, below in (
        ("stall per checkpoint", "stall_s", "checkpoints_requested"),
        ("cost of a failure", "wasted_s", "restarts"),
    ):
        ratios = {s: [row[above] / row[below] for row in own if row["suite_id"] == s] for s in suites}
        found = find(document, f"blocking: {name}")
        assert found["value"] == pytest.approx(sum(sum(one) / len(one) for one in ratios.values()) / len(suites))
        assert found["unit"] == "s"
        assert found["low"] <= found["value"] <= found["high"]
    assert find(document, "blocking: replay of a failure")["unit"] == "steps"
    assert not [one for one in document["numbers"] if one["name"] == "reference: stall per checkpoint"]


def test_costs_are_those_of_the_answer_and_of_the_advice(document: dict[str, Any], evidence: Evidence) -> None:
    table = build_variant_table(evidence)
    rows = {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    for variant in ("blocking", "overlapped"):
        for header, name in (
            ("stall per checkpoint (s)", "stall per checkpoint"),
            ("one failure (s)", "cost of a failure"),
            ("one failure (steps)", "replay of a failure"),
        ):
            assert rows[variant][header] == number(find(document, f"{variant}: {name}")["value"], 3)
        slower = find(document, f"{variant}: interference per checkpoint")
        shown = effect(Effect(0, slower["value"], slower["low"], slower["high"]), 0.0)
        assert rows[variant]["slower steps per checkpoint (s)"] == shown
    [one] = [c for c in engine_costs(only(evidence, "cifar10")) if c.variant == "overlapped"]
    alone = replace(evidence, rows=tuple(run.row for run in only(evidence, "cifar10")), _made={})
    costs = find(json.loads(build_text(alone)), "overlapped: interference per checkpoint")
    assert (one.interference_s, *one.interference_ci_s) == (costs["value"], costs["low"], costs["high"])


def test_the_kept_goodput_is_the_answers_where_a_third_variant_failed(
    document: dict[str, Any], evidence: Evidence
) -> None:
    table = build_variant_table(evidence)
    rows = {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}
    for variant, blocks in (("overlapped", 6), ("blocking", 5)):
        kept = find(document, f"{variant}: goodput kept")
        shown = effect(Effect(0, kept["value"], kept["low"], kept["high"]), 1.0)
        assert rows[variant]["goodput kept"] == shown
        assert len(document["block_sets"][kept["blocks"]]) == blocks
        assert kept["variants"] == [variant, "reference"]
    whole = find(document, "overlapped: goodput / reference")
    assert len(document["block_sets"][whole["blocks"]]) == 5


def only(evidence: Evidence, dataset: str) -> list[RunAnalysis]:
    return [run for run in evidence.runs if run.row["dataset"] == dataset]


def test_claims_have_their_estimates_and_a_rate_counts_every_registered_block(
    document: dict[str, Any], evidence: Evidence
) -> None:
    ratio, rate = evidence.claims
    found = find(document, "claim overlapping pays")
    assert (found["value"], found["low"], found["high"]) == (ratio.estimate, ratio.low, ratio.high)
    found = find(document, "claim always right")
    assert found["value"] == rate.estimate
    assert len(document["block_sets"][found["blocks"]]) == 6


def test_every_definition_is_a_section_of_the_page(document: dict[str, Any]) -> None:
    titles = re.findall(r"^## (.+)$", PAGE.read_text(), re.MULTILINE)
    sections = {f"docs/metrics.md#{re.sub(r'[^a-z0-9]+', '-', title.lower())}" for title in titles}
    assert {one["defined_in"] for one in document["numbers"]} <= sections


def test_digests_are_those_of_the_files_of_every_run_that_a_number_rests_on(
    document: dict[str, Any], paths: CampaignPaths
) -> None:
    assert (
        len(document["events"]) == 17
    )  # of the block of the failed run, the costs of overlapped count its own and the reference
    for name, digests in document["events"].items():
        files = {path.name: path for path in (paths.suites / name).glob("events-*.jsonl")}
        assert digests == {file: hashlib.sha256(path.read_bytes()).hexdigest() for file, path in files.items()}
        assert len(digests) > 1


def test_a_number_without_a_bound_is_null_and_the_text_is_json(tmp_path: Path) -> None:
    found = json.loads(build_text(build_evidence(load_campaign(campaign(tmp_path, datasets=["cifar10"], seeds=[1])))))
    ratio = find(found, f"overlapped / blocking: {GOODPUT}")
    assert ratio["value"] > 1
    assert (ratio["low"], ratio["high"]) == (None, None)


def test_a_campaign_without_a_run_has_no_levels_and_no_files(tmp_path: Path) -> None:
    found = build_document(build_evidence(load_campaign(campaign(tmp_path, change=lambda *_: None))))
    assert found["events"] == {}
    assert [(one["name"], one["value"]) for one in found["numbers"]] == [("claim overlapping pays", None)]


def test_a_table_made_elsewhere_has_numbers_without_files(tmp_path: Path) -> None:
    found = json.loads(build_text(load_table_evidence(table(tmp_path, ROWS), None)))
    assert found["events"] == {}
    assert find(found, f"overlapped / blocking: {GOODPUT}")["value"] > 0
    assert all(block["seed"] is None for blocks in found["block_sets"].values() for block in blocks)


def test_the_command_writes_it_by_default(paths: CampaignPaths, tmp_path: Path) -> None:
    done = run_inline("report", "--prefix", "exp", "--results", str(paths.results), "--out", str(tmp_path))
    assert str(tmp_path / "exp_report.json") in done.stdout.splitlines()
    assert json.loads((tmp_path / "exp_report.json").read_text())["campaign"] == "exp"
    assert "`exp_report.json`" in (tmp_path / "exp_report.md").read_text()
