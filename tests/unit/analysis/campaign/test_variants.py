"""Variants that are no engines' names: their engines, their options, and which two are compared first."""

from pathlib import Path
from typing import Any

import pytest

from ecrl.analysis.advice.engine_costs import engine_costs
from ecrl.analysis.campaign import variants
from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.campaign.variants import find_main_pair, list_recipes
from ecrl.analysis.evidence import build_evidence
from ecrl.config.matrix import Matrix
from ecrl.report.pages.advice import tables
from tests.unit.analysis.campaign_builder import campaign

FAST = '[variants.fast]\nengine = "overlapped"\n'
NAMES = ("reference", "blocking", "fast")
DECLARED = {
    "disk_every": {"type": "int", "default": 1, "legacy": 1},
    "wait": {"type": "bool", "default": True, "legacy": False},
}


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """A matrix whose `fast` has options that an engine declares."""
    monkeypatch.setattr(
        variants, "get_declared_options", lambda _family, name: DECLARED if name == "overlapped" else {}
    )
    return load_campaign(campaign(tmp_path, variants=NAMES, more=FAST, seeds=[1], claims="")).matrix


def with_options(matrix: Matrix, axes: dict[str, Any] | None = None, **options: Any) -> str:
    told = matrix.model_copy(update={"variants": {"fast": {"engine": "overlapped", **options}}, "axes": axes or {}})
    return str(list_recipes(told)["fast"])


def test_a_recipe_tells_its_engine_and_the_options_that_are_not_its_defaults(matrix: Matrix) -> None:
    assert list(list_recipes(matrix)) == ["blocking", "fast"]
    assert str(list_recipes(matrix)["blocking"]) == "blocking"
    assert with_options(matrix, disk_every=1, wait=True) == "fast (overlapped)"
    assert with_options(matrix, disk_every=10, wait=False) == "fast (overlapped, disk_every 10, wait false)"


def test_an_option_that_is_an_axis_is_told_with_all_of_its_values(matrix: Matrix) -> None:
    axes = {"variants.fast.disk_every": [1, 10], "variants.fast.wait": [True]}
    assert with_options(matrix, axes, disk_every=1, wait=False) == "fast (overlapped, disk_every 1 or 10)"


@pytest.mark.parametrize(
    ("names", "pair"),
    [
        (("reference", "overlapped", "fast", "blocking"), ("overlapped", "blocking")),
        (("reference", "slow", "blocking", "fast"), ("fast", "slow")),
        (("reference", "fast"), None),
        ((), None),
    ],
)
def test_the_main_comparison_is_of_variants_whatever_they_are_called(
    names: tuple[str, ...], pair: tuple[str, str] | None
) -> None:
    assert find_main_pair(names) == pair


def test_a_variant_is_judged_by_its_engine_and_compared_by_its_name(tmp_path: Path) -> None:
    paths = campaign(tmp_path, variants=("reference", "slow", "fast"), seeds=[1], claims="",
                     more=f'{FAST}[variants.slow]\nengine = "blocking"\n')  # fmt: skip
    found = load_campaign(paths)
    assert {run.row["variant"]: run.facts["engine"] for run in found.runs} == {
        "reference": None, "slow": "blocking", "fast": "overlapped",
    }  # fmt: skip
    whole = build_evidence(found)
    assert whole.headline == ("fast", "slow")
    untested = [threat.evidence for threat in whole.threats.found if threat.code == "inflight_untested"]
    assert not [text for text in untested if "slow" in text]  # blocking has nothing in flight
    costs = {one.variant: one for one in engine_costs(found.runs)}
    assert (costs["fast"].engine, costs["fast"].name) == ("overlapped", "fast (overlapped)")
    assert costs["fast"].stall_s == pytest.approx(0.002)


def test_advice_names_variants_with_their_engines(tmp_path: Path) -> None:
    from ecrl.analysis.advice.advise import advise

    runs = load_campaign(campaign(tmp_path, variants=NAMES, more=FAST, claims="", datasets=["cifar10"])).runs
    [(_, header, _)] = tables(advise(runs, 3600))
    assert header == ["", "fast (overlapped)", "blocking"]
