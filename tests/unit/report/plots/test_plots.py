"""Plots: what is equal is drawn once, and what differs can be told apart."""

import dataclasses
import itertools
import re

import matplotlib
import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.evidence import Evidence, build_evidence
from ecrl.report.plots import plots
from ecrl.report.plots.bars import PHASE_COLORS, draw_steps
from ecrl.report.plots.losses import describe_losses, draw_losses, list_panels
from ecrl.report.plots.style import COLORS, DARK
from tests.unit.analysis.campaign_builder import campaign

_APART = 18.0  # of lightness from 0 to 100 and of two colour axes as long


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A campaign of 2 suites, 3 variants and 3 seeds in which all losses are equal."""
    return build_evidence(load_campaign(campaign(tmp_path_factory.mktemp("results"))))


def changed(whole: Evidence, suite: int, *variants: str) -> Evidence:
    """The same with other losses in these variants of a suite."""
    suite_id = list(whole.suites)[suite]
    runs = tuple(
        dataclasses.replace(run, curve=tuple(loss and loss + 1 for loss in run.curve))
        if run.row["suite_id"] == suite_id and run.row["variant"] in variants
        else run
        for run in whole.runs
    )
    return dataclasses.replace(whole, runs=runs)


def drawn(found: Evidence) -> list[tuple[str, list[str]]]:
    """The panels' titles, each with the curves in it."""
    canvas = draw_losses(found)
    assert canvas is not None
    panels = [axes for axes in canvas.axes if axes.get_visible()]
    return [
        (axes.get_title(), [str(line.get_label()) for line in axes.lines if line.get_label() in found.variants])
        for axes in panels
    ]


def test_a_matplotlibrc_changes_no_plot(whole: Evidence) -> None:
    plain = plots.draw(whole)
    with matplotlib.rc_context({"axes.linewidth": 5, "legend.fontsize": 30, "xtick.labelsize": 30}):
        assert plots.draw(whole) == plain
        assert matplotlib.rcParams["axes.linewidth"] == 5


def test_identical_curves_and_identical_panels_are_drawn_once_and_said_to_be(whole: Evidence) -> None:
    assert drawn(whole) == [("fashion-mini; cifar10\nall 3 variants identical", ["reference"])]
    assert "The curves of all variants are bit-identical" in describe_losses(whole)
    assert "share a panel" in describe_losses(whole)


def test_a_curve_of_its_own_and_a_suite_of_its_own_are_drawn(whole: Evidence) -> None:
    found = changed(whole, 1, "overlapped")
    one, other = drawn(found)
    assert one == ("fashion-mini\nall 3 variants identical", ["reference"])
    assert other == ("cifar10\nreference and blocking identical", ["reference", "overlapped"])
    assert "Bit-identical curves are drawn once" in describe_losses(found)
    assert "share a panel" not in describe_losses(found)


def test_where_no_curve_is_shared_nothing_is_said_of_it(whole: Evidence) -> None:
    found = changed(changed(whole, 0, "overlapped", "blocking"), 0, "overlapped")
    alone = dataclasses.replace(
        found, runs=tuple(run for run in found.runs if run.row["suite_id"] == next(iter(whole.suites)))
    )
    assert drawn(alone) == [("fashion-mini", ["reference", "blocking", "overlapped"])]
    assert "identical" not in describe_losses(alone)


def test_panels_need_equal_failures_too(whole: Evidence) -> None:
    moved = tuple(
        dataclasses.replace(run, failures=tuple(dataclasses.replace(cost, at=1) for cost in run.failures))
        if run.row["dataset"] == "cifar10"
        else run
        for run in whole.runs
    )
    assert len(list_panels(dataclasses.replace(whole, runs=moved))) == 2
    assert list_panels(dataclasses.replace(whole, runs=())) == []


def test_one_ledger_is_without_what_lies_around_the_steps(whole: Evidence) -> None:
    canvas = draw_steps(whole)
    assert canvas is not None
    parts = {text.get_text() for text in canvas.legends[0].get_texts()}
    assert {"compute", "persist stall"} <= parts
    assert not {"startup", "detect", "restart", "shutdown"} & parts
    assert plots.draw(whole)["ledger_steps"].path == "plots/ledger_steps.svg"


def lab(color: str) -> tuple[float, float, float]:
    """CIE L*a*b* (D65): colours whose numbers lie far apart look different."""
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in channels)
    x, y, z = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    fx, fy, fz = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


@pytest.mark.parametrize("colors", [COLORS, PHASE_COLORS], ids=["ledger", "restarts"])
@pytest.mark.parametrize("dark", [False, True])
def test_parts_of_a_bar_can_be_told_apart_on_both_grounds(colors: dict[str, str], dark: bool) -> None:
    shown = {name: DARK.get(color, color) if dark else color for name, color in colors.items()}
    for (one, a), (other, b) in itertools.combinations(shown.items(), 2):
        apart = sum((p - q) ** 2 for p, q in zip(lab(a), lab(b), strict=True)) ** 0.5
        assert apart > _APART, (one, other)


def test_no_plot_holds_a_name_with_an_underscore(whole: Evidence) -> None:
    for name, figure in plots.draw(whole).items():
        texts = re.findall(r"<text[^>]*>([^<]*)<", figure.svg.decode())
        assert [text for text in texts if "_" in text] == [], name
