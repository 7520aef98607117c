"""The multiverse in words and as a plot."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.config.run import RunSpec
from ecrl.experiments.training.report import PLUGIN
from ecrl.records.reader import RunRecord
from ecrl.report.sections.multiverse import PLUGIN as SECTION
from ecrl.report.text.document import Bullets, Figure, Paragraph
from ecrl.report.text.multiverse import describe
from tests.unit.analysis.campaign_builder import CLAIM, campaign

DATASETS = ("fashion-mini", "cifar10", "cifar100", "noise")


def slower_but_on_cifar10(run: RunSpec, found: RunRecord) -> RunRecord:
    """Overlapped ends later by more than it gains, and much earlier on one data set."""
    if run.variant == "overlapped":
        found.launcher[-1]["t"] += (-400 if run.dataset == "cifar10" else 160) * 1_000_000 + run.seed * 3_000_000
    return found


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    paths = campaign(tmp_path_factory.mktemp("r"), datasets=DATASETS, change=slower_but_on_cifar10)
    return build_evidence(load_campaign(paths))


def test_the_sentence_counts_the_analyses_and_names_what_the_others_share(fragile: Evidence) -> None:
    [m] = fragile.multiverses
    assert m.counts == {"CONFIRMED": 36, "REFUTED": 4}
    assert describe(m, fragile) == (
        "overlapping pays: CONFIRMED in 36 of 40 defensible analyses, that of the report among them; REFUTED in 4"
        " (all are: without cifar10)."
    )


def test_a_verdict_that_threats_or_looks_changed_is_named_beside_it(fragile: Evidence) -> None:
    [m] = fragile.multiverses
    assert m.judged is not None
    vetoed = replace(m, judged=replace(m.judged, verdict="INCONCLUSIVE"))
    assert "The report's verdict is INCONCLUSIVE" in describe(vetoed, fragile)


def test_without_a_claim_nothing_is_called_confirmed(fragile: Evidence) -> None:
    text = describe(replace(fragile.multiverses[0], judged=None), fragile)
    assert "a gain in 36 of 40" in text
    assert "a loss in 4" in text
    assert "CONFIRMED" not in text


def test_the_plot_has_a_row_for_every_option_and_the_same_bytes_again(fragile: Evidence) -> None:
    figures = PLUGIN.draw(fragile, pdf=False)
    svg = figures["multiverse-1"].svg.decode()
    for text in ("CONFIRMED (36)", "REFUTED (4)", "without cifar10", "linear scale", "nothing left out"):
        assert f">{text}</text>" in svg
    assert PLUGIN.draw(fragile, pdf=False)["multiverse-1"] == figures["multiverse-1"]
    blocks = SECTION.blocks(fragile, figures)
    assert [type(block) for block in blocks] == [Bullets, Paragraph, Figure]


@pytest.mark.parametrize(("seeds", "variants", "said"), [
    ([1], ("reference", "blocking", "overlapped"), "no analysis of these runs decides (directional only"),
    ([1], ("blocking",), "No effect of two variants"),
])  # fmt: skip
def test_too_little_for_any_analysis_is_said(
    seeds: Sequence[int], variants: Sequence[str], said: str, tmp_path: Path
) -> None:
    claims = "" if len(variants) == 1 else CLAIM
    found = build_evidence(load_campaign(campaign(tmp_path, seeds=seeds, variants=variants, claims=claims)))
    [first] = SECTION.blocks(found, {})  # no rules where nothing was crossed
    assert said in (first.items[0] if isinstance(first, Bullets) else first.text)  # type: ignore[union-attr]
    assert "multiverse-1" not in PLUGIN.draw(found, pdf=False)
