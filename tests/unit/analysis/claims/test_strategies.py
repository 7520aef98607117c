"""False verdicts of whole campaigns without an effect, by what somebody does who wants one.

Every claim is true at its bound, so CONFIRMED and REFUTED are both wrong; each is to come at most in 2.5 %.
"""

import numpy as np
import pytest
from scipy import stats

from ecrl.analysis.claims.result import DECIDED
from tests.unit.analysis.claims.strategies import (
    DRAWS,
    SEEDS,
    STRATEGIES,
    Simulated,
    decide_quickly,
    find_verdicts,
    flip_quickly,
)

NOMINAL = 0.025


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test for one look is left out where it decides nothing, and is faster where it does."""
    monkeypatch.setattr("ecrl.analysis.statistics.estimate.sign_flip_p", flip_quickly)
    monkeypatch.setattr("ecrl.analysis.claims.claims.decide", decide_quickly)


def is_above_nominal(wrong: int, trials: int) -> bool:
    """Whether so many wrong verdicts would come in less than one of 1,000 simulations at the nominal rate."""
    return bool(stats.binom.sf(wrong - 1, trials, NOMINAL) < 0.001)


def count_wrong(strategy: str, shape: str, suites: int, claims: int, trials: int) -> dict[str, int]:
    rng = np.random.default_rng([77, suites])
    found = [
        find_verdicts(Simulated(rng, DRAWS[shape], suites, SEEDS[suites], claims), STRATEGIES[strategy])
        for _ in range(trials)
    ]
    return {verdict: sum(verdict in one for one in found) for verdict in ("CONFIRMED", "REFUTED")}


@pytest.mark.parametrize("suites", [1, 8])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_gets_a_verdict_out_of_nothing(strategy: str, suites: int) -> None:
    trials = 30
    wrong = count_wrong(strategy, "normal", suites, 1, trials)
    assert not [verdict for verdict, n in wrong.items() if is_above_nominal(n, trials)]


@pytest.mark.statistics
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("claims", [1, 4])
@pytest.mark.parametrize("suites", SEEDS)
@pytest.mark.parametrize("shape", DRAWS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_gets_a_verdict_out_of_nothing_in_many(strategy: str, shape: str, suites: int, claims: int) -> None:
    trials = 1000
    wrong = count_wrong(strategy, shape, suites, claims, trials)
    assert not [verdict for verdict, n in wrong.items() if is_above_nominal(n, trials)]


def test_a_losing_block_that_is_deleted_or_broken_leaves_no_verdict() -> None:
    """A clear effect, CONFIRMED at once: what would be found is not, once a block was lost on the way."""
    for strategy in ("delete_losers", "break_losers"):
        campaign = Simulated(np.random.default_rng(3), DRAWS["normal"], 1, 16)
        campaign.d = {block: [d + 0.1 for d in own] for block, own in campaign.d.items()}
        verdicts = [campaign.judge()[0].verdict for _ in STRATEGIES[strategy](campaign)]
        assert verdicts[0] == "CONFIRMED"
        assert verdicts[1] not in DECIDED
