"""The first screen: one sentence that answers, and one row per variant."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.registration import Aside
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.analysis.external_table.table import load_table_evidence
from ecrl.analysis.threats.base import Threat
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.render import format_answer, render
from ecrl.report.sections import answer, interpretation
from ecrl.report.text.answer import build_sentence
from ecrl.report.text.document import Table
from ecrl.report.text.variant_rows import build_variant_table
from tests.unit.analysis.campaign_builder import campaign
from tests.unit.analysis.external_table.test_table import ROWS, table


def made(results: Path, chosen: tuple[str, str] | None = None, **options: Any) -> Evidence:
    return build_evidence(load_campaign(campaign(results, **options)), chosen=chosen)


def rows_of(found: Evidence) -> dict[str, dict[str, str]]:
    table = build_variant_table(found)
    return {row[0]: dict(zip(table.headers, row, strict=True)) for row in table.rows}


def test_a_confirmed_claim_names_the_engine_its_gain_and_its_verdict(tmp_path: Path) -> None:
    found = made(tmp_path)
    text = build_sentence(found)
    assert text.startswith("Use overlapped: the goodput of overlapped is 1.024")
    assert "overlapped keeps 0.58" in text
    assert f"The claim 'overlapping pays' (ratio > 1.00) reads {found.claims[0].reading}." in text
    rows = rows_of(found)
    assert list(rows) == ["overlapped", "blocking", "reference"]  # the best first, the yardstick last
    best = rows["overlapped"]
    assert best["goodput kept"].startswith("0.58")
    assert best["stall per checkpoint (s)"] == "0.002"
    assert rows["blocking"]["stall per checkpoint (s)"] == "0.04"
    assert (best["one failure (steps)"], best["recovered"], best["verdict"]) == ("2", "6 of 6", "CONFIRMED")
    assert best["durable, verified"] == "yes, yes"
    assert rows["blocking"]["verdict"] == "–"


def test_without_a_claim_a_difference_is_exploratory(tmp_path: Path) -> None:
    text = build_sentence(made(tmp_path, claims=""))
    assert text.startswith("These runs favour overlapped: ")
    assert text.endswith("No claim about it was registered before the runs: exploratory.")


def test_where_nothing_is_shown_the_sentence_says_what_would_have_shown(tmp_path: Path) -> None:
    found = made(tmp_path, claims="")
    rows = [
        row | {"goodput_steps_per_s": 10 + (row["seed"] - 2 if row["variant"] == "overlapped" else 0)}
        for row in found.rows
    ]
    text = build_sentence(replace(found, rows=tuple(rows), _made={}))
    assert text.startswith("Nothing tells the goodput of overlapped from that of blocking: ")
    assert " or more would have shown (80 % power)." in text
    assert "Use " not in text


def test_a_blocking_threat_is_named_and_nothing_is_claimed(tmp_path: Path) -> None:
    text = build_sentence(made(tmp_path, seeds=[1, 2]))
    assert text.startswith("No answer: `n_pairs_lt_6` keeps these runs from deciding between overlapped and blocking")
    assert "4 pairs" in text
    assert not {"Use", "favour"} & set(text.split())
    found = made(tmp_path / "b")
    other = Threat("made_up", True, "it concerns somebody else", ("overlapped", "reference"))
    assert "made_up" not in build_sentence(replace(found, threats=replace(found.threats, found=(other,))))
    ours = replace(other, variants=("overlapped", "blocking"))
    assert "`made_up` keeps" in build_sentence(replace(found, threats=replace(found.threats, found=(ours,))))


def test_an_interim_report_recommends_nothing(tmp_path: Path) -> None:
    found = made(tmp_path)
    pending = replace(found.registration, pending=(("s", 1), ("s", 2)))
    text = build_sentence(replace(found, registration=pending))
    assert text.startswith("No answer yet: 2 registered blocks are not done; so far the goodput of overlapped is 1.02")


def test_nothing_is_a_finding_beside_a_threat_a_pending_block_or_a_second_look(tmp_path: Path) -> None:
    found = made(tmp_path)
    said = "describes these runs and decides nothing."
    assert said not in markdown(interpretation.PLUGIN.blocks(found, {}))
    threat = Threat("made_up", True, "it concerns both", ("overlapped", "blocking"))
    held = replace(found, threats=replace(found.threats, found=(threat,)))
    text = markdown(interpretation.PLUGIN.blocks(held, {}))
    assert f"`made_up` blocks every claim about overlapped and blocking: what follows {said}" in text
    aside = Aside(("", "", 0), 1, "completed", None)
    again = replace(found.registration, asides=(replace(aside, key=found.runs[0].key),), pending=(("s", 1),))
    text = markdown(interpretation.PLUGIN.blocks(replace(found, registration=again), {}))
    assert "1 registered block is not done; there were 2 looks, and the intervals and p below are right for one" in text


@pytest.mark.parametrize("change", [{"where": {"dataset": "cifar10"}}, {"expect": "ratio within 0.10"}])
def test_a_claim_about_some_suites_or_about_equality_recommends_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    found = made(tmp_path)
    claim = found.claims[0].claim.model_copy(update=change)
    text = build_sentence(replace(found, claims=(replace(found.claims[0], claim=claim),)))
    assert text.startswith("These runs favour overlapped: ")


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        (["overlapped"], "No answer: overlapped alone ran, so there is nothing to compare it with."),
        (["reference", "overlapped"], "overlapped is measured against the reference, not against another engine: "),
    ],
)
def test_one_engine_is_measured_but_not_chosen(tmp_path: Path, variants: list[str], words: str) -> None:
    found = made(tmp_path, variants=variants, claims="")
    assert build_sentence(found).startswith(words)
    assert rows_of(found)["overlapped"]["recovered"] == "6 of 6"


def test_without_a_reference_goodput_is_relative_to_another_engine(tmp_path: Path) -> None:
    found = made(tmp_path, variants=["blocking", "overlapped"])
    rows = rows_of(found)
    assert rows["blocking"]["goodput / blocking"] == "1"
    assert rows["overlapped"]["goodput / blocking"].startswith("1.02")
    assert rows["overlapped"]["slower steps per checkpoint (s)"] == "–"
    assert "of the reference's" not in build_sentence(found)


def test_without_failures_there_is_no_column_about_them(tmp_path: Path) -> None:
    columns = build_variant_table(made(tmp_path, failures="none = []")).headers
    assert not [name for name in columns if "failure" in name or name == "recovered"]


def test_of_runs_that_never_ended_there_is_no_row(tmp_path: Path) -> None:
    found = made(tmp_path, change=lambda _run, _found: None)
    assert build_sentence(found) == "No answer: no run completed."
    assert not [block for block in answer.PLUGIN.blocks(found, {}) if isinstance(block, Table)]


def test_a_table_made_elsewhere_promises_nothing(tmp_path: Path) -> None:
    found = load_table_evidence(table(tmp_path, ROWS))
    rows = rows_of(found)
    assert rows["overlapped"]["durable, verified"] == "unknown"
    assert rows["overlapped"]["verdict"] == "–"
    assert build_sentence(found).startswith("No answer: `")


def test_the_best_of_six_engines_is_named_beside_the_main_comparison(tmp_path: Path) -> None:
    more = '[variants.fast]\nengine = "overlapped"\n[variants.slow]\nengine = "torch-save"\n'
    variants = ["reference", "blocking", "overlapped", "torch-save", "slow", "fast"]
    found = made(tmp_path, variants=variants, more=more, chosen=("slow", "blocking"))
    text = build_sentence(found)
    assert text.startswith("These runs favour blocking: the goodput of slow is 0.9")
    best, *_, last = rows_of(found)
    assert best in ("fast", "overlapped")
    assert f"Of the 5 engines {best} has the highest goodput here (0." in text
    assert last == "reference"


def test_what_was_chosen_is_what_the_whole_report_speaks_of(tmp_path: Path) -> None:
    found = made(tmp_path, claims="", seeds=[1], chosen=("blocking", "reference"))
    render(found, tmp_path / "out", ["md", "html"])
    text = (tmp_path / "out" / "exp_report.md").read_text()
    assert "Gain by cause: blocking against reference" in text
    assert "by part of the ledger, 95 %" not in text, "one seed gives no interval"
    [ratio] = re.findall(r"wall-clock of reference\) = -?([\d.]+),", text)
    assert len(ratio.replace(".", "").lstrip("0")) <= 3, ratio
    assert "### blocking against reference" in text
    assert "overlapped against blocking" not in text
    html = (tmp_path / "out" / "exp_report.html").read_text()
    assert html.index("Gain by cause") < html.index('class="cards"') < html.index("Scope and setup</h2>")
    assert text.index("## 0. Answer") < text.index("## 1. Scope and setup")
    assert format_answer(found) in text
