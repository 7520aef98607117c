"""The test vectors of docs/metrics.md, and an event simulation as an independent oracle."""

import math
import random

import pytest

from ecrl.analysis.advice.interval import FLAT_LOSS, availability_s, daly_s, ettr, flat_band, floor_s, steps, young_s

MINUTE, HOUR = 60.0, 3600.0


def waste(tau: float, s: float, p: float, mtbf: float, restart: float) -> float:
    """The page's first-order waste: s/tau + (tau/2 + p + R)/M."""
    return s / tau + (tau / 2 + p + restart) / mtbf


def dalys_total(work: float, tau: float, s: float, mtbf: float, restart: float) -> float:
    """Daly's complete model of blocking: M exp(R/M) (exp((tau+s)/M) - 1) Ts/tau."""
    return mtbf * math.exp(restart / mtbf) * math.expm1((tau + s) / mtbf) * work / tau


@pytest.mark.parametrize(("mtbf_h", "minutes"), [(24, 117), (6, 57), (0.25, 9.1)])
def test_daly_reproduces_the_vectors_of_his_page(mtbf_h: float, minutes: float) -> None:
    assert daly_s(5 * MINUTE, mtbf_h * HOUR) / MINUTE == pytest.approx(minutes, abs=0.5 if minutes > 10 else 0.05)


def test_daly_gives_the_mtbf_where_a_checkpoint_costs_twice_as_much() -> None:
    assert daly_s(20, 10) == 10
    assert daly_s(19.999, 10) != 10


def test_young_and_the_overlapped_optimum_are_the_same_root_of_the_stall_alone() -> None:
    assert young_s(1, 1440) == pytest.approx(53.7, abs=0.05)
    assert young_s(1, 360) == pytest.approx(26.8, abs=0.05)


def test_the_availability_optimum_is_where_uptime_times_useful_share_is_largest() -> None:
    s, mtbf, restart = 30.0, 3 * HOUR, 120.0
    best = max(range(1, 5000), key=lambda tau: tau / (tau + s) / (mtbf + restart + (tau + s) / 2))
    assert availability_s(s, mtbf, restart) == pytest.approx(best, abs=1)


def test_the_waste_is_least_at_the_optimum_and_about_the_root_of_2s_over_m_there() -> None:
    s, p, mtbf, restart = 1.0, 8.0, 1440.0, 10.0
    best = young_s(s, mtbf)
    assert min((waste(tau, s, p, mtbf, restart), tau) for tau in range(10, 300))[1] == pytest.approx(best, abs=1)
    assert waste(best, s, p, mtbf, restart) - (p + restart) / mtbf == pytest.approx(math.sqrt(2 * s / mtbf))


def simulated_ettr(
    tau: float, s: float, p: float, mtbf: float, restart: float, *, seed: int, goal: float = 400_000.0
) -> float:
    """Useful work over time of a job with Poisson failures whose checkpoints are durable p after the stall s.

    A failure may strike a restart, which then begins again.
    """
    rng = random.Random(seed)
    now = done = durable = 0.0
    flying: list[tuple[float, float]] = []
    struck = rng.expovariate(1 / mtbf)
    while done < goal:
        if struck < now + tau + s:  # within the interval or its stall: back to the newest durable checkpoint
            durable = max([durable, *(work for t, work in flying if t <= struck)])
            now, done, flying = struck, durable, []
            while (struck := now + rng.expovariate(1 / mtbf)) < now + restart:
                now = struck
            now += restart
            continue
        now, done = now + tau + s, done + tau
        flying = [*(f for f in flying if f[0] > now - p - tau), (now + p, done)]
    return goal / now


@pytest.mark.parametrize(("mtbf", "tau", "published"), [(360, 26.8, 0.879), (1440, 30, 0.946), (1440, 53.7, 0.951)])
def test_the_overlapped_ettr_agrees_with_the_page_and_with_a_simulation(
    mtbf: float, tau: float, published: float
) -> None:
    found = ettr(tau, 1, 8, mtbf, 10)
    assert found == pytest.approx(published, abs=0.0035)  # the page's is of first order
    simulated = sum(simulated_ettr(tau, 1, 8, mtbf, 10, seed=seed) for seed in range(4)) / 4
    assert found == pytest.approx(simulated, abs=0.005)


def test_dalys_complete_model_agrees_with_a_simulation_of_blocking() -> None:
    tau, s, mtbf, restart = 60.0, 3.0, 900.0, 10.0
    simulated = sum(simulated_ettr(tau, s, 0, mtbf, restart, seed=seed) for seed in range(8)) / 8
    assert ettr(tau, s, 0, mtbf, restart) == pytest.approx(simulated, rel=0.005)
    assert ettr(tau, s, 0, mtbf, restart) == pytest.approx(1 / dalys_total(1, tau, s, mtbf, restart))


@pytest.mark.parametrize(
    ("s", "p", "mtbf", "restart", "expected"),
    [(5, 10, 60, 60, 0.200), (5, 0, 60, 60, 0.237), (1, 0, 60, 60, 0.305), (2, 5, 120, 60, 0.482)],
)
def test_work_is_done_where_a_restart_takes_as_long_as_the_mtbf(
    s: float, p: float, mtbf: float, restart: float, expected: float
) -> None:
    tau = young_s(s, mtbf)
    found = ettr(tau, s, p, mtbf, restart)
    assert found == pytest.approx(expected, abs=0.0005)
    simulated = sum(simulated_ettr(tau, s, p, mtbf, restart, seed=seed, goal=20_000) for seed in range(4)) / 4
    assert found == pytest.approx(simulated, abs=0.01)
    assert found > (1 - (restart + tau / 2 + p) / mtbf) / (1 + s / tau)  # first-order theory is too low
    assert 0 <= ettr(1e9, s, p, mtbf, restart) < 1e-9  # no overflow


def test_the_floor_is_a_lone_persist_on_a_shared_disk_and_a_share_of_one_where_they_run_in_parallel() -> None:
    assert floor_s(8, 20, 4, shared_disk=True) == 8
    assert floor_s(8, 20, 4, shared_disk=False) == 5


@pytest.mark.parametrize(
    ("tau", "floor", "expected"), [(53.7, 0, 107), (53.7, 60, 120), (0.1, 0, 1), (10, 10.0, 20), (10, 10.01, 21)]
)
def test_steps_are_the_rounded_optimum_but_never_below_the_floor(tau: float, floor: float, expected: int) -> None:
    assert steps(tau, floor, 0.5) == expected


def test_the_flat_band_holds_exactly_the_intervals_that_cost_less_than_its_loss() -> None:
    model = (0.5, 1.0, 8.0, 1440.0, 10.0)
    best = steps(young_s(1, 1440), 0, 0.5)
    low, high = flat_band(best, 1, *model)
    bound = ettr(best * 0.5, *model[1:]) - FLAT_LOSS
    inside = [k for k in range(1, 2000) if ettr(k * 0.5, *model[1:]) >= bound]
    assert (low, high) == (inside[0], inside[-1])
    assert flat_band(best, best, *model)[0] == best
