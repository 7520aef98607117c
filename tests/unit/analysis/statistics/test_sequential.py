"""The sequential test: its formula, and how often it is wrong when a campaign is looked at again and again."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import integrate, stats

from ecrl.analysis.campaign.registration import Aside, Registration
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.analysis.statistics.sequential import DECISION, adjust_e, compute_log_e, compute_rho
from ecrl.config.matrix import Claim

CLAIM = Claim(name="pays", compare=["overlapped", "blocking"], expect="ratio > 1.00")
NOMINAL = 0.025
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.float64]]


def build_rows(d: npt.NDArray[np.float64], suites: int = 1) -> list[Row]:
    """Blocks with these log ratios, dealt to suites in turn."""
    return [
        empty_row(suite_id=f"s{i % suites}", seed=i, variant=name, outcome="completed", goodput_steps_per_s=value)
        for i, ratio in enumerate(np.exp(d).tolist())
        for name, value in (("blocking", 2.0), ("overlapped", 2.0 * ratio))
    ]


def extended(first: int, total: int, suites: int = 1, step: int = 1) -> Registration:
    """The registration of `total` blocks, of which `first` were registered at once."""
    numbers = [0 if i < first else 1 + (i - first) // step for i in range(total)]
    keys = [(f"s{i % suites}", name, i) for i in range(total) for name in ("blocking", "overlapped")]
    return Registration({key: numbers[key[2]] for key in keys})


def judge(d: npt.NDArray[np.float64], registration: Registration, suites: int = 1) -> ClaimResult:
    [judged] = judge_claims([CLAIM], build_rows(d, suites), {}, registered=True, registration=registration)
    return judged


def test_e_is_the_mixture_of_likelihood_ratios_over_half_a_normal() -> None:
    d, rho = [0.3, -0.1, 0.4, 0.2], 2.0
    total, squares = sum(d), sum(x * x for x in d)
    mixed, _ = integrate.quad(
        lambda t: 2 * stats.norm.pdf(t, scale=rho) * math.exp(t * total - t * t * squares / 2), 0, np.inf
    )
    assert compute_log_e(d, rho) == pytest.approx(math.log(mixed))
    assert compute_log_e([], rho) == pytest.approx(0)
    assert math.exp(compute_log_e([0.3] * 400, rho)) > 1e6


def test_rho_ignores_signs_and_needs_a_spread() -> None:
    assert compute_rho([1.0, -1.0]) == compute_rho([1.0, 1.0]) == 0.5
    assert compute_rho([]) is None
    assert compute_rho([0.0]) is None


def test_e_holm_divides_by_the_claims_that_are_left() -> None:
    logs = adjust_e([math.log(60), None, math.log(200)])
    assert [None if x is None else round(math.exp(x), 6) for x in logs] == [30, None, pytest.approx(200 / 3)]
    assert adjust_e([math.log(90), math.log(80)]) == pytest.approx([math.log(45), math.log(45)])


def test_a_clear_effect_is_confirmed_after_extensions_and_a_weak_one_is_exploratory() -> None:
    rng = np.random.default_rng(5)
    strong, weak = rng.normal(0.03, 0.02, 24), rng.normal(0.03, 0.02, 6)
    judged = judge(strong, extended(6, 24))
    assert (judged.verdict, judged.looks, judged.sequential) == ("CONFIRMED", 19, "CONFIRMED")
    judged = judge(np.abs(weak) + 0.01, extended(5, 6))
    assert (judged.verdict, judged.would_be, judged.looks) == ("EXPLORATORY", "CONFIRMED", 2)
    assert "2 looks: extended or made again" in judged.reasons[-1]
    assert judge(-strong, extended(6, 24)).verdict == "REFUTED"


def test_the_test_uses_the_first_result_of_a_run_that_was_made_again() -> None:
    d = np.full(24, 0.03) + np.random.default_rng(6).normal(0, 0.01, 24)
    rows = build_rows(d)
    asides = tuple(
        Aside(("s0", "overlapped", i), 1, "completed", {"goodput_steps_per_s": 2.0 * math.exp(-d[i])})
        for i in range(0, 24, 2)
    )
    [judged] = judge_claims([CLAIM], rows, {}, registered=True, registration=Registration(asides=asides))
    assert (judged.verdict, judged.would_be, judged.looks) == ("EXPLORATORY", "CONFIRMED", 2)
    lost = Registration(untraced=(("s0", "overlapped", 0),))
    [judged] = judge_claims([CLAIM], rows, {}, registered=True, registration=lost)
    assert (judged.verdict, judged.log_e) == ("EXPLORATORY", None)
    assert judged.reasons[-1].endswith("does not decide: no sequential test of this claim")


def test_an_extension_does_not_hide_what_the_first_runs_showed() -> None:
    """Eight losing blocks, and then eight that win more: the whole shows nothing."""
    d = np.concatenate([np.full(8, -0.03), np.full(8, 0.04)]) + np.random.default_rng(6).normal(0, 0.005, 16)
    judged = judge(d, extended(8, 16, step=8))
    assert (judged.verdict, judged.looks, judged.first) == ("INCONCLUSIVE", 2, "REFUTED")
    assert "the runs that were registered first, looked at once, read REFUTED" in judged.reasons
    assert judge(d[:8], extended(8, 8)).first == ""


def test_a_losing_block_cannot_be_lost_by_making_it_again_and_breaking_it() -> None:
    d = np.random.default_rng(6).normal(0.03, 0.01, 24)
    d[:2] = -0.2  # made again, and then both variants fail: the newest results have no such block
    keys = [("s0", variant, seed) for seed in (0, 1) for variant in ("blocking", "overlapped")]
    values = {"blocking": 2.0, "overlapped": 2.0 * math.exp(-0.2)}
    asides = tuple(Aside(key, 1, "completed", {"goodput_steps_per_s": values[key[1]]}) for key in keys)
    broken = {key: f"{key[1]} is failed" for key in keys}
    [judged] = judge_claims(
        [CLAIM], build_rows(d), broken, registered=True, registration=Registration(asides=asides)
    )  # fmt: skip
    assert (judged.verdict, judged.would_be, judged.looks) == ("EXPLORATORY", "CONFIRMED", 2)
    assert judged.log_e is None


def test_a_metric_that_the_first_result_does_not_tell_decides_nothing() -> None:
    """A result that was set aside is analysed without its reference, so it has no `ettr_ref`."""
    claim = CLAIM.model_copy(update={"metric": "ettr_ref"})
    rows = [row | {"ettr_ref": row["goodput_steps_per_s"]} for row in build_rows(np.full(24, 0.03))]
    lost = Registration(asides=(Aside(("s0", "overlapped", 0), 1, "completed", {"ettr_ref": None}),))
    [judged] = judge_claims([claim], rows, {}, registered=True, registration=lost)
    assert (judged.verdict, judged.log_e) == ("EXPLORATORY", None)


def test_a_reference_that_was_made_again_is_a_look_at_every_claim() -> None:
    """A block whose reference fails is in no comparison: whoever makes it again chooses blocks."""
    rows = build_rows(np.full(12, 0.03) + np.random.default_rng(6).normal(0, 0.01, 12))
    rows += [row | {"variant": "reference"} for row in rows if row["variant"] == "blocking"]
    again = Registration(asides=(Aside(("s0", "reference", 0), 1, "completed", {"goodput_steps_per_s": 2.0}),))
    [judged] = judge_claims([CLAIM], rows, {}, registered=True, registration=again)
    assert judged.looks == 2


def test_seeds_that_are_added_to_workloads_are_no_observations_of_their_own() -> None:
    first = np.array([0.02, 0.03, 0.025, 0.015, 0.02, 0.01])
    judged = [judge(np.tile(first, times), extended(6, 6 * times, suites=6, step=6), 6) for times in (1, 6)]
    assert judged[0].log_e == pytest.approx(judged[1].log_e)


def build_rounds(d: npt.NDArray[np.float64]) -> list[Row]:
    """Log ratios of every suite (column) in every seed (row)."""
    return [
        row | {"suite_id": f"s{suite}", "seed": seed}
        for (seed, suite), value in np.ndenumerate(d)
        for row in build_rows(np.array([value]))
    ]


def test_rounds_of_seeds_that_are_added_to_these_suites_are_observations() -> None:
    """Suites that differ, with a clear mean: each seed gives one mean over all suites."""
    d = np.array([-0.02, 0.04, 0.07]) + np.random.default_rng(4).normal(0, 0.01, (16, 3))
    keys = [(f"s{i}", name, seed) for seed in range(16) for i in range(3) for name in ("blocking", "overlapped")]
    registration = Registration({key: int(key[2] >= 4) for key in keys})
    [judged] = judge_claims([CLAIM], build_rounds(d), {}, registered=True, registration=registration)
    rho = compute_rho(d[:4].mean(axis=1).tolist())
    assert rho is not None
    assert judged.log_e == pytest.approx(compute_log_e(d.mean(axis=1).tolist(), rho))
    assert (judged.verdict, judged.reading) == ("CONFIRMED", "CONFIRMED for these 3 suites")
    holed = [row for row in build_rounds(d) if (row["suite_id"], row["seed"]) != ("s0", 15)]
    [short] = judge_claims([CLAIM], holed, {}, registered=True, registration=registration)
    assert short.log_e == pytest.approx(compute_log_e(d[:15].mean(axis=1).tolist(), rho))


# -- how often it is wrong ------------------------------------------------------------------------------------

DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(0, 0.02, n),
    "heavy tails": lambda rng, n: 0.02 * rng.standard_t(2, n),
    "unequal spreads": lambda rng, n: rng.normal(0, 0.02, n) * rng.choice([1, 5], n),
}


def confirmed_at_some_look(d: npt.NDArray[np.float64], first: int) -> bool:
    """Whether a campaign that is extended by a block at a time, and looked at each time, is ever CONFIRMED."""
    rho = compute_rho(d[:first].tolist())
    assert rho is not None
    looks = (compute_log_e(d[:n].tolist(), rho) for n in range(first, len(d) + 1))
    return any(log_e >= math.log(DECISION) for log_e in looks)


@pytest.mark.parametrize("shape", DRAWS)
def test_looking_after_every_block_confirms_no_effect_at_most_as_often_as_nominal(shape: str) -> None:
    rng, trials = np.random.default_rng(20), 400
    wrong = sum(confirmed_at_some_look(DRAWS[shape](rng, 40), 6) for _ in range(trials))
    assert wrong / trials <= NOMINAL


def cheat(rng: np.random.Generator, draw: Draw, suites: int) -> bool:
    """Whether a campaign without an effect is CONFIRMED by somebody who extends it and runs its worse half again."""
    first, spread = 2 * suites if suites > 1 else 8, rng.normal(0, 0.02, suites)

    def draw_blocks(n: int) -> npt.NDArray[np.float64]:
        return draw(rng, n) + (np.resize(spread, n) if suites > 1 else 0)

    d, asides = draw_blocks(first), list[Aside]()
    for number in range(1, 7):
        registration = Registration(extended(first, len(d), suites, first).generations, asides=tuple(asides))
        if number > 1 and judge(d, registration, suites).verdict == "CONFIRMED":
            return True
        if number % 2:
            for worst in np.argsort(d)[: len(d) // 2].tolist():
                key = (f"s{worst % suites}", "overlapped", worst)
                earlier = sum(aside.key == key for aside in asides)
                row = {"goodput_steps_per_s": 2.0 * math.exp(d[worst])}
                asides.append(Aside(key, earlier + 1, "completed", row))
                d[worst] = draw_blocks(worst + 1)[worst]
        else:
            d = np.concatenate([d, draw_blocks(first)])
    return False


def count_cheated(trials: int, shape: str, suites: int) -> float:
    rng = np.random.default_rng(21)
    return sum(cheat(rng, DRAWS[shape], suites) for _ in range(trials)) / trials


@pytest.fixture
def without_sign_flips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sign flips take most of the time, and decide nothing after several looks."""
    monkeypatch.setattr("ecrl.analysis.statistics.estimate.sign_flip_p", lambda *_: 0.01)


@pytest.mark.usefixtures("without_sign_flips")
def test_extending_and_running_again_confirms_no_effect_at_most_as_often_as_nominal() -> None:
    assert count_cheated(100, "normal", 1) <= NOMINAL


@pytest.mark.torture
@pytest.mark.usefixtures("without_sign_flips")
@pytest.mark.parametrize("suites", [1, 12])
@pytest.mark.parametrize("shape", DRAWS)
def test_no_way_of_looking_confirms_no_effect_more_often_than_nominal(shape: str, suites: int) -> None:
    assert count_cheated(1000, shape, suites) <= NOMINAL
