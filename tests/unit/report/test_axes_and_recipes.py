"""What a report says of axes of its own, of variants that are no engines, and of campaigns without failures."""

import re
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import MOST_ARMS, Evidence, build_evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.config.run import RunSpec
from ecrl.experiments.training.report import PLUGIN
from ecrl.records.reader import RunRecord
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.analysis import sections as analysis_sections
from ecrl.report.pages.render import render
from ecrl.report.sections import claims, integrity, ledger, next_runs, results, scope
from ecrl.report.text.document import Block, Table
from ecrl.report.text.names import label_suite, suite_names
from tests.unit.analysis.campaign_builder import campaign

BATCHES = '[axes]\n"train.batch_size" = [4, 8]\n'
FAST = '[variants.fast]\nengine = "overlapped"\n'


def made(results: Path, **options: Any) -> Evidence:
    values: dict[str, Any] = {"datasets": ["cifar10"], "seeds": [1, 2], "claims": "", **options}
    return build_evidence(load_campaign(campaign(results, **values)))


def prose(found: Evidence) -> str:
    return markdown([block for section in PLUGIN.list_sections() for block in section.blocks(found, {})])


def tables(blocks: list[Block]) -> list[Table]:
    return [block for block in blocks if isinstance(block, Table)]


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """One data set with two batch sizes."""
    return made(tmp_path_factory.mktemp("results"), more=BATCHES)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A campaign that plans no failure, of a recipe against blocking."""
    variants = ("reference", "blocking", "fast")
    return made(tmp_path_factory.mktemp("results"), failures="none = []", variants=variants, more=FAST)


# -- axes -----------------------------------------------------------------------------------------------------


def test_suites_are_told_apart_by_their_axes_wherever_they_are_named(batches: Evidence) -> None:
    assert sorted(suite_names(batches.suites).values()) == ["train.batch_size=4", "train.batch_size=8"]
    for suite_id in batches.suites:
        assert re.search(r"` \(train.batch_size=[48]\)$", label_suite(batches, suite_id))
    [suites] = tables(scope.PLUGIN.blocks(batches, {}))
    assert suites.headers[-3:] == ("train.batch_size", "status", "id")
    [ranking] = [one for one in tables(results.PLUGIN.blocks(batches, {})) if one.headers[0] == "#"]
    assert [row[ranking.headers.index("train.batch_size")] for row in ranking.rows] in (["4", "8"], ["8", "4"])
    assert "stall (s), blocking → overlapped" in ranking.headers
    for section in analysis_sections()[:5]:
        assert "train.batch_size" in markdown(section.blocks(batches, {})) or section.title == "Gates"


def test_missing_runs_dropped_blocks_and_threats_name_the_axes_of_their_suites(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord | None:
        return None if (run.variant, run.train.batch_size) == ("blocking", 8) else found

    found = made(tmp_path, more=BATCHES, change=change)
    text = markdown(integrity.PLUGIN.blocks(found, {}))
    assert "/blocking/seed1` (train.batch_size=8) is missing: never started" in text
    assert "` (train.batch_size=8) seed 1: blocking is missing." in text
    [threat] = [one for one in found.threats.found if one.code == "missing_blocks"]
    assert "/seed1 (train.batch_size=8) (blocking is missing)" in threat.evidence
    assert "` (train.batch_size=8) seed 1 (" in markdown(results.PLUGIN.blocks(found, {}))


def test_runs_that_differ_in_an_axis_are_averaged_in_no_line(batches: Evidence) -> None:
    arms = [f"{variant}, train.batch_size={n}" for n in (4, 8) for variant in ("reference", "blocking", "overlapped")]
    assert [str(arm) for arm in batches.arms] == arms
    text = prose(batches)
    for arm in arms:
        assert f"| {arm} " in text
        assert f"{arm} (s)" in text
    assert "Over all values of train.batch_size (4 and 8) together." in text
    assert "What follows is over all values of train.batch_size (4 and 8) together" in text


def test_every_axis_with_several_values_is_broken_down_by_gain_stall_and_loss(batches: Evidence) -> None:
    blocks = results.PLUGIN.blocks(batches, {})
    [by] = [one for one in tables(blocks) if one.headers[0] == "train.batch_size"]
    levels = "stall (s), blocking → overlapped"
    assert by.headers[1:6] == ("ratio [95 % CI]", "change", levels, "stall difference (s)", "loss difference")
    assert {row[3] for row in by.rows} == {"0.12 → 0.006"}
    assert [row[0] for row in by.rows] == ["4", "8"]
    assert all(row[4].startswith("-0.1") and row[-1] == "2 pairs in 1 suite" for row in by.rows)
    text = markdown(blocks)
    assert "### By train.batch_size" in text
    assert "Below 6 pairs (train.batch_size 4 and 8)" in text
    assert "checkpoint interval (4)" in text


def test_an_axis_with_more_values_than_lines_that_can_be_read_is_averaged_and_said_to_be(tmp_path: Path) -> None:
    values = list(range(4, 4 + MOST_ARMS // 3 + 1))
    found = made(tmp_path, more=f'[axes]\n"train.batch_size" = {values}\n', seeds=[1])
    assert [str(arm) for arm in found.arms] == ["reference", "blocking", "overlapped"]
    assert found.whole_basis == f"over {len(values)} whole blocks, every train.batch_size together"
    assert found.whole_basis in markdown(ledger.PLUGIN.blocks(found, {}))


def test_many_lines_of_a_ledger_stand_below_each_other_and_add_up(tmp_path: Path) -> None:
    found = made(tmp_path, more='[axes]\n"train.batch_size" = [4, 8, 16]\n', seeds=[1])
    first = tables(ledger.PLUGIN.blocks(found, {}))[0]
    assert (first.headers[0], first.headers[-1], len(first.rows)) == ("variant", "wall (s)", 9)
    for row in first.rows:
        *parts, wall_s = map(float, row[1:])
        assert sum(parts) == pytest.approx(wall_s, abs=0.02)


def test_a_detailed_table_is_read_back_with_its_axes(tmp_path: Path) -> None:
    more = '[axes]\n"train.batch_size" = [4, 8]\n"train.nproc" = [1, 2]\n'
    render(made(tmp_path / "results", more=more, failures="none = []"), tmp_path, ["csv"])
    found = load_table_evidence(tmp_path / "exp_detailed_table.csv")
    assert found.warnings == ()
    assert found.axes == ("train.batch_size", "nproc")
    assert found.factors["nproc"] == (1, 2)
    assert len(set(suite_names(found.suites).values())) == 4
    assert "### By train.batch_size" in prose(found)


# -- recipes --------------------------------------------------------------------------------------------------


def test_the_report_tells_the_engine_of_every_variant(calm: Evidence) -> None:
    assert "Variants reference, blocking and fast (overlapped) over 1 suite" in prose(calm)
    promises = tables(integrity.PLUGIN.blocks(calm, {}))[0]
    assert [row[:4] for row in promises.rows] == [
        ("blocking", "yes", "yes", "yes"),
        ("fast (overlapped)", "yes", "yes", "yes"),
    ]
    assert "### fast against blocking" in prose(calm)


@pytest.mark.parametrize(
    ("axes", "durable", "named"),
    [
        ("", "yes", "flushed (torch-save, fsync true)"),
        ('[axes]\n"variants.flushed.fsync" = [true, false]\n', "where fsync is true",
         "flushed (torch-save, fsync true or false)"),
    ],
)  # fmt: skip
def test_what_an_option_promises_stands_with_the_option(tmp_path: Path, axes: str, durable: str, named: str) -> None:
    more = f'{axes}[variants.flushed]\nengine = "torch-save"\nfsync = true\n'
    found = made(tmp_path / "results", variants=("reference", "torch-save", "flushed"), more=more, seeds=[1])
    promises = tables(integrity.PLUGIN.blocks(found, {}))[0]
    assert [row[:2] for row in promises.rows] == [("torch-save", "no"), (named, durable)]
    if axes:
        render(found, tmp_path, ["csv"])
        lines = (tmp_path / "exp_runs.csv").read_text().splitlines()
        assert {line.rpartition(",")[2] for line in lines} == {"variants.flushed.fsync", "true", "false"}


def test_a_table_from_elsewhere_promises_nothing_in_the_name_of_ecrls_engines(tmp_path: Path, calm: Evidence) -> None:
    render(calm, tmp_path, ["csv"])
    found = load_table_evidence(tmp_path / "exp_detailed_table.csv")
    assert "durable" not in markdown(integrity.PLUGIN.blocks(found, {}))


# -- no failures ----------------------------------------------------------------------------------------------


def test_a_campaign_without_failures_speaks_of_none(calm: Evidence, tmp_path: Path) -> None:
    render(calm, tmp_path)
    text = (tmp_path / "exp_report.md").read_text()
    rest = text
    of_nothing = ("| failures |", "failures none", "failure schedule (none)", "no failure is planned")
    for known in (
        "failures = restarts = planned",
        "`replay_untested`",
        "`unequal_failures`",
        *of_nothing,
    ):
        assert known in rest
        rest = rest.replace(known, "")
    assert re.findall(r".*(?:failure|replay|lost in flight|recovered).*", rest) == []
    assert text.startswith("# exp: what checkpointing costs\n")
    page = (tmp_path / "exp_report.html").read_text()
    assert ">failure<" not in page


def test_threats_that_failures_alone_bring_about_do_not_apply_without_them(calm: Evidence) -> None:
    codes = ("replay_untested", "inflight_untested", "drained_before_kill", "page_cache_only", "unequal_failures")
    for code in codes:
        assert calm.threats.not_applicable[code] == "no failure is planned"
    assert not {*codes} & {*calm.threats.clear, *calm.threats.not_checked, *(t.code for t in calm.threats.found)}


def test_failures_that_were_planned_beside_none_are_spoken_of(tmp_path: Path) -> None:
    found = made(tmp_path, failures="none = []\ninside = [6]")
    text = prose(found)
    assert sorted(suite_names(found.suites).values()) == ["failures none", "inside"]
    assert "### By failure schedule" in text
    assert "With checkpoints and failures blocking has " in text
    assert {row["failure_steps"] for row in found.rows if row["failure_label"] == "none"} == {""}


# -- claims ---------------------------------------------------------------------------------------------------

CLAIMS = """[[claims]]
name = "hardly stalls"
of = "overlapped"
metric = "stall_s"
expect = "value < 0.5"
smallest = 0.05
[[claims]]
name = "recovers"
of = "blocking"
metric = "correct"
expect = "rate > 0.99"
where = { "train.batch_size" = [4, 8] }
[[claims]]
name = "pays at 8"
compare = ["overlapped", "blocking"]
expect = "ratio > 2.00"
where = { "train.batch_size" = 8 }
"""


def test_claims_say_of_what_and_of_which_suites_they_speak(tmp_path: Path) -> None:
    found = made(tmp_path, more=BATCHES, claims=CLAIMS, seeds=[1, 2, 3, 4])
    table = tables(claims.PLUGIN.blocks(found, {}))[0]
    told = {row[0]: (row[1], row[-1]) for row in table.rows}
    assert told == {
        "hardly stalls": ("stall_s of overlapped: value < 0.5", "8 blocks in 2 suites"),
        "recovers": (
            "correct of blocking: rate > 0.99, for 2 of 2 suites: train.batch_size = 4 or 8", "8 runs in 2 suites",
        ),
        "pays at 8": (
            "goodput_steps_per_s: overlapped / blocking, ratio > 2.00, for 1 of 2 suites: train.batch_size = 8",
            "4 pairs in 1 suite",
        ),
    }  # fmt: skip
    text = markdown(claims.PLUGIN.blocks(found, {}))
    assert "None" not in text
    assert "pays at 8: INCONCLUSIVE, because directional only, against the claimed direction: 4 pairs, 6 are" in text
    buys = markdown(next_runs.PLUGIN.blocks(found, {}))
    assert '80 % power to decide "pays at 8" if the true effect is the observed one' in buys
    assert "(7 seeds x 1 suite, planned with the SD's upper 80 % bound, Holm over 3 claims)" in buys


def test_a_claim_about_one_variant_says_how_far_from_its_bound_would_show(tmp_path: Path) -> None:
    def change(run: RunSpec, found: RunRecord) -> RunRecord:
        for events in found.events.values():
            for event in events:
                if event["e"] == "save" and run.variant == "overlapped":
                    event["t"] += run.seed * 100_000  # a tenth of a millisecond
        return found

    found = made(
        tmp_path, claims=CLAIMS.partition('[[claims]]\nname = "recovers"')[0], change=change, seeds=[*range(1, 7)]
    )
    text = markdown(claims.PLUGIN.blocks(found, {}))
    assert re.search(r"hardly stalls: 0\.\d+ away from 0\.5 \(of interest: 0\.05\)", text)


def test_a_claim_about_a_variant_without_a_block_says_so(tmp_path: Path) -> None:
    found = made(tmp_path, more=BATCHES, claims=CLAIMS, change=lambda _run, _found: None)
    assert found.claims[0].reasons[0] == "no block has stall_s of overlapped"


def test_a_recipe_in_the_main_comparison_has_its_multiverse_without_any_claim(tmp_path: Path) -> None:
    found = made(tmp_path, variants=("reference", "blocking", "fast"), more=FAST, claims="", seeds=[1, 2, 3])
    [one] = found.multiverses
    assert one.claim.compare == ["fast", "blocking"]
    assert one.few is not None
    assert "3 pairs, 6 are needed" in one.few
