"""Simulated campaigns without an effect, and what somebody who wants a verdict may do with them.

A strategy looks at the verdict, and may then extend the campaign, make blocks again, or break them. Every verdict is
that of `judge_claims`, with the registration that such a campaign leaves behind.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from ecrl.analysis.campaign.registration import Aside, Registration
from ecrl.analysis.claims import verdict
from ecrl.analysis.claims.claims import judge_claims
from ecrl.analysis.claims.result import DECIDED, INCONCLUSIVE, ClaimResult
from ecrl.analysis.run.metrics import Row, empty_row
from ecrl.config.matrix import Claim

METRICS = ("goodput_steps_per_s", "wall_s", "stall_s", "compute_s")
CLAIMS = tuple(
    Claim(name=name, compare=["overlapped", "blocking"], metric=name, expect="ratio > 1.00") for name in METRICS
)
SEEDS = {1: 8, 3: 3, 8: 2, 12: 2}  # registered first, by the number of suites
SEEDS_AND_SUITES = 12  # most units of a first look
Draw = Callable[[np.random.Generator], float]

DRAWS: dict[str, Draw] = {
    "normal": lambda rng: float(rng.normal(0, 0.02)),
    "heavy tails": lambda rng: float(0.02 * rng.standard_t(2)),
    "unequal spreads": lambda rng: float(rng.normal(0, 0.02) * rng.choice([1, 5])),
}


@dataclass
class Simulated:
    """A campaign whose true mean is exactly the bound of its claims.

    shifts: the true mean of every suite. Of less than six suites they add up to 0, as these suites are the question.
    """

    rng: np.random.Generator
    draw: Draw
    suites: int
    seeds: int
    claims: int = 1
    generation: int = 0
    shifts: list[float] = field(default_factory=list)
    d: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    generations: dict[tuple[str, str, int], int] = field(default_factory=dict)
    asides: list[Aside] = field(default_factory=list)
    faults: dict[tuple[str, str, int], str] = field(default_factory=dict)
    pending: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._fill()

    def _fill(self) -> None:
        """Make the blocks that are registered and not there."""
        self.shifts += self.rng.normal(0, 0.02, self.suites - len(self.shifts)).tolist()
        if self.suites < 6:
            mean = sum(self.shifts) / self.suites
            self.shifts = [shift - mean for shift in self.shifts]
        for block in np.ndindex(self.suites, self.seeds):
            if block not in self.d:
                self.d[block] = self._draw_block(block[0])
                for variant in ("overlapped", "blocking"):
                    self.generations[f"s{block[0]}", variant, block[1]] = self.generation

    def _draw_block(self, suite: int) -> list[float]:
        return [self.shifts[suite] + self.draw(self.rng) for _ in range(self.claims)]

    def extend(self, *, seeds: int = 0, suites: int = 0) -> None:
        self.generation += 1
        self.seeds, self.suites = self.seeds + seeds, self.suites + suites
        self._fill()

    def list_worst(self) -> list[tuple[int, int]]:
        """The worse half of the blocks, by the first claim."""
        return sorted(self.d, key=lambda block: self.d[block][0])[: len(self.d) // 2]

    def make_again(self, block: tuple[int, int]) -> None:
        key = (f"s{block[0]}", "overlapped", block[1])
        earlier = sum(aside.key == key for aside in self.asides)
        self.asides.append(Aside(key, earlier + 1, "completed", self._list_values(self.d[block])))
        self.d[block] = self._draw_block(block[0])

    def break_block(self, block: tuple[int, int]) -> None:
        """Make a block again, and see to it that both variants fail this time."""
        self.make_again(block)
        self.faults |= {
            (f"s{block[0]}", variant, block[1]): f"{variant} is failed" for variant in ("overlapped", "blocking")
        }

    def delete(self, block: tuple[int, int]) -> None:
        self.pending.add((f"s{block[0]}", block[1]))
        self.faults |= {
            (f"s{block[0]}", variant, block[1]): f"{variant} is missing" for variant in ("overlapped", "blocking")
        }

    def _list_values(self, d: list[float]) -> Row:
        return dict(zip(METRICS, np.exp(d).tolist(), strict=False))

    def judge(self) -> tuple[ClaimResult, ...]:
        rows = [
            empty_row(suite_id=f"s{suite}", seed=seed, variant=name, outcome="completed", **values)
            for (suite, seed), d in self.d.items()
            for name, values in (
                ("blocking", self._list_values([0.0] * self.claims)),
                ("overlapped", self._list_values(d)),
            )
        ]
        registration = Registration(self.generations, asides=tuple(self.asides), pending=tuple(self.pending))
        return judge_claims(
            CLAIMS[: self.claims], rows, self.faults, registered=True, registration=registration
        )  # fmt: skip


Strategy = Callable[[Simulated], Iterator[None]]


def look_once(_campaign: Simulated) -> Iterator[None]:
    yield


def add_seeds(campaign: Simulated) -> Iterator[None]:
    yield
    for _ in range(6):
        campaign.extend(seeds=2)
        yield


def add_suites(campaign: Simulated) -> Iterator[None]:
    yield
    for _ in range(6):
        campaign.extend(suites=max(1, campaign.suites // 4))
        yield


def make_losers_again(campaign: Simulated) -> Iterator[None]:
    yield
    for _ in range(3):
        for block in campaign.list_worst():
            campaign.make_again(block)
        yield
        campaign.extend(seeds=2)
        yield


def break_losers(campaign: Simulated) -> Iterator[None]:
    yield
    for block in campaign.list_worst()[: max(1, len(campaign.d) // 4)]:
        campaign.break_block(block)
    campaign.extend(seeds=4)
    yield


def delete_losers(campaign: Simulated) -> Iterator[None]:
    yield
    for block in campaign.list_worst()[: max(1, len(campaign.d) // 4)]:
        campaign.delete(block)
    yield


STRATEGIES: dict[str, Strategy] = {
    one.__name__: one for one in (look_once, add_seeds, add_suites, make_losers_again, break_losers, delete_losers)
}


def find_verdicts(campaign: Simulated, strategy: Strategy) -> set[str]:
    """The first decided verdicts that somebody gets who stops there."""
    for _ in strategy(campaign):
        if decided := {judged.verdict for judged in campaign.judge() if judged.verdict in DECIDED}:
            return decided
    return set()


def decide_quickly(judged: ClaimResult, vetoes: Sequence[str]) -> tuple[str, list[str]]:
    """The verdict as if there was one look; undecided after several, where it decides nothing."""
    return verdict.decide(judged, vetoes) if judged.looks == 1 else (INCONCLUSIVE, [])


def flip_quickly(d: Sequence[float], null: float = 0.0) -> float:
    """The p of `sign_flip_p` up to 12 values, with its tolerance. More occur after the first look, where p decides
    nothing.
    """
    if len(d) > SEEDS_AND_SUITES:
        return 0.01
    shifted = np.asarray(d) - null
    sums = np.abs(_list_signs(len(d)) @ shifted)
    return float(np.mean(sums >= abs(shifted.sum()) * (1 - 1e-12)))


@cache
def _list_signs(n: int) -> npt.NDArray[np.float64]:
    return np.array(list(itertools.product((1.0, -1.0), repeat=n)))
