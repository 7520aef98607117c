"""How often claims err, by simulation: the program that says so, and the rates themselves."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ecrl.analysis.campaign.load import load_campaign
from ecrl.analysis.claims.calibration import Calibration, build_shape, calibrate
from ecrl.analysis.claims.claims import decide_claims
from ecrl.analysis.claims.measure import measure_comparison
from ecrl.analysis.claims.power import Design
from ecrl.analysis.evidence import GOODPUT, build_evidence
from ecrl.analysis.statistics.compare import Comparison, Pair
from ecrl.config.matrix import Claim
from ecrl.records.paths import CampaignPaths
from ecrl.report.formats.markdown import markdown
from ecrl.report.pages.calibration import read_calibrations, write_calibrations
from ecrl.report.sections import claims as section
from tests.errors import has_error, raises
from tests.unit.analysis.campaign_builder import CLAIM, campaign
from tests.unit.cli.inline import run_inline

Draw = Callable[[np.random.Generator, tuple[int, ...]], npt.NDArray[np.float64]]
NOMINAL = 0.025


def compare_blocks(d: npt.NDArray[np.float64]) -> Comparison:
    """Log ratios of every suite (row) in every seed (column)."""
    pairs = tuple(Pair(f"s{i}", seed, 1.0, 1.0, float(x)) for (i, seed), x in np.ndenumerate(d))
    works = tuple(frozenset({f"s{i}"}) for i in range(len(d)))
    return Comparison("overlapped", "blocking", GOODPUT, "ratio", pairs, (), works)


def judge(d: npt.NDArray[np.float64], expect: str = "ratio > 1.00") -> str:
    claim = Claim(name="pays", compare=["overlapped", "blocking"], expect=expect)
    [judged] = decide_claims([measure_comparison(claim, compare_blocks(d), "")])
    return judged.verdict


# -- the rates ------------------------------------------------------------------------------------------------

NOISES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0, 0.01, size),
    "heavy tails": lambda rng, size: 0.01 * rng.standard_t(3, size),
    "spreads from 1 to 3": lambda rng, size: rng.normal(0, 0.01, size) * np.linspace(1, 3, size[0])[:, None],
}
LAYOUTS = ((1, 8), (2, 6), (4, 6), (3, 4), (8, 2), (12, 1))


def count_wrong(layout: tuple[int, int], noise: str, trials: int) -> tuple[float, float]:
    """Shares of CONFIRMED and REFUTED without an effect, in suites that differ by 2 %."""
    rng, verdicts = np.random.default_rng(31), []
    for _ in range(trials):
        means = rng.normal(0, 0.02, (layout[0], 1))
        # 1 to 5 suites are a statement about their own mean
        means = means - means.mean() if layout[0] < 6 else means
        verdicts.append(judge(means + NOISES[noise](rng, layout)))
    return verdicts.count("CONFIRMED") / trials, verdicts.count("REFUTED") / trials


def allow(trials: int) -> float:
    """The nominal rate, and three standard errors of a share of so many trials."""
    return NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / trials)


@pytest.mark.parametrize("layout", [(4, 6), (8, 2)])
def test_no_effect_is_confirmed_or_refuted_at_most_as_often_as_nominal(layout: tuple[int, int]) -> None:
    assert max(count_wrong(layout, "normal", 120)) <= allow(120)


@pytest.mark.statistics
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_no_layout_is_an_effect_shown_that_is_not_there(layout: tuple[int, int], noise: str) -> None:
    assert max(count_wrong(layout, noise, 2000)) <= allow(2000)


@pytest.mark.statistics
@pytest.mark.parametrize(("suites", "seeds"), [(1, 6), (3, 3), (8, 2)])
def test_the_suggested_runs_decide_a_claim_as_often_as_promised(suites: int, seeds: int) -> None:
    """It was 36 to 78 % where 80 % was promised."""
    rng = np.random.default_rng(32)
    claim = Claim(name="pays", compare=["overlapped", "blocking"], expect="ratio > 1.00", smallest=0.01)
    d = rng.normal(0.01, 0.02, (suites, seeds))
    d += 0.01 - d.mean()
    [judged] = decide_claims([measure_comparison(claim, compare_blocks(d), "")])
    [found] = calibrate([judged], trials=300)
    assert found.planned > 100
    assert found.followed / found.planned >= 0.8 - 3 * math.sqrt(0.16 / found.planned)


# -- the program ----------------------------------------------------------------------------------------------


def test_a_shape_has_the_spreads_and_the_suites_of_its_runs() -> None:
    rng = np.random.default_rng(33)
    d = np.array([[0.01], [0.03], [0.08]]) + rng.normal(0, [[0.001], [0.01], [0.02]], (3, 5))
    claim = Claim(name="pays", compare=["overlapped", "blocking"], expect="ratio > 1.00")
    shape = build_shape(measure_comparison(claim, compare_blocks(d), ""))
    assert shape is not None
    assert shape.within == pytest.approx(tuple(np.std(d, axis=1, ddof=1)))
    assert shape.offsets == pytest.approx(tuple(d.mean(axis=1) - d.mean()))
    drawn = [shape.draw(rng, 0.5).estimate for _ in range(400)]
    assert np.mean([one.center for one in drawn if one is not None]) == pytest.approx(0.5, abs=0.002)
    more = shape.draw_design(rng, 0.0, Design("these suites", 3, 9))
    assert (len(more.pairs), more.estimand) == (27, "these suites")
    workloads = build_shape(measure_comparison(claim, compare_blocks(rng.normal(0, 0.02, (8, 1))), ""))
    assert workloads is not None
    assert (workloads.offsets, workloads.within) == (None, (0.0,) * 8)
    assert workloads.between == pytest.approx(0.02, rel=0.5)
    assert build_shape(measure_comparison(claim, compare_blocks(rng.normal(0, 0.02, (3, 1))), "")) is None


def vary(tmp_path: Path, name: str = "exp", seeds: int = 3) -> CampaignPaths:
    """A campaign whose runs end up to a tenth of a second later, by chance."""
    rng = np.random.default_rng(34)

    def change(_run: object, found: object) -> object:
        found.launcher[-1]["t"] += int(rng.integers(0, 100)) * 1_000_000  # type: ignore[attr-defined]
        return found

    both = f"{CLAIM}{CLAIM.replace('overlapping pays', 'recovers').replace('ratio > 1.00', 'rate > 0.50')}"
    return campaign(tmp_path, name, seeds=list(range(1, seeds + 1)), claims=both, change=change)  # type: ignore[arg-type]


def test_the_rates_are_printed_kept_and_shown_by_the_report(tmp_path: Path) -> None:
    paths = vary(tmp_path)
    done = run_inline("selftest", "--statistics", "--prefix", "exp", "--results", str(tmp_path), "--trials", "10")
    assert done.returncode == 0
    assert done.stdout.startswith("claim ")
    assert "overlapping pays" in done.stdout
    assert "not simulated: recovers: they name no effect" in done.stderr
    [kept] = read_calibrations(paths)
    assert (kept.name, kept.trials) == ("overlapping pays", 10)
    assert 0 <= kept.false_confirmed + kept.false_refuted <= 10
    shown = build_evidence(load_campaign(paths), calibrations=[kept])
    assert "How often such a campaign errs" in markdown(section.PLUGIN.blocks(shown, {}))
    other = build_evidence(load_campaign(vary(tmp_path, "other", seeds=4)), calibrations=[kept])
    assert other.calibrations == (), "made for other runs"


def test_what_cannot_be_simulated_is_said(tmp_path: Path) -> None:
    campaign(tmp_path, "alone", seeds=[1])
    base = ["selftest", "--statistics", "--results", str(tmp_path)]
    for arguments, code, facts in (
        ([*base, "--prefix", "alone"], "ECRL-716", ("alone", "[[claims]]")),
        (base, "ECRL-716", ("alone", "[[claims]]")),
        (["selftest"], "ECRL-102", ("--device", "cpu or cuda")),
    ):
        done = run_inline(*arguments)
        assert done.returncode == 2
        assert has_error(done.stderr, code, *facts)


@pytest.mark.parametrize(
    "change",
    [
        *[{"trials": "many"}, {"trials": 0}, {"covered": 11}, {"false_refuted": -1}, {"kind": "share"}],
        *[{"covered": True}, {"covered": 9.0}, {"bound": math.nan}, {"effect": "0.1"}, {"name": None}],
    ],
)
def test_a_calibration_that_cannot_be_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    paths = CampaignPaths(tmp_path, "alone")
    paths.root.mkdir()
    whole = Calibration("pays", "ratio", "6 pairs", 10, 0.0, 0.1, False, 1, 0, 9, 8, 2, 1)
    write_calibrations(paths, [whole])
    assert read_calibrations(paths) == (whole,)
    paths.calibration.write_text(json.dumps({"claims": [asdict(whole) | change]}))
    with raises("ECRL-717", "alone_calibration.json", "--statistics"):
        read_calibrations(paths)
