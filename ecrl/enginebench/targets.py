"""The targets of a bench of checkpoint engines, judged by the intervals of their ratios over rounds. Pure functions."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

RESAMPLES = 4_999
CONFIDENCE = 0.95
MET, MISSED, UNDECIDED, NOT_JUDGED = "met", "MISSED", "undecided", "not judged"
Round = tuple[float, float]  # what the engine took in a round, and what it is compared with in the same round


@dataclass(frozen=True)
class Target:
    """A ratio that should be at most `at_most`. rounds: numerator and denominator of every round."""

    name: str
    at_most: float
    rounds: Sequence[Round]

    @property
    def found(self) -> float | None:
        """The ratio of the medians; None without rounds, or if the denominator is not positive."""
        return _divide_medians(self.rounds) if self.rounds else None

    @property
    def interval(self) -> tuple[float, float | None] | None:
        """The 95 % percentile interval of `found` over rounds drawn again from a fixed seed. Its end None: no end.

        None if `found` is.
        """
        if self.found is None:
            return None
        rng, n = random.Random(0), len(self.rounds)
        # Rounds are drawn whole: what slowed one down slowed both.
        drawn = [_divide_medians(rng.choices(self.rounds, k=n)) for _ in range(RESAMPLES)]
        # a denominator around 0 makes the ratio as large as one likes
        ordered = sorted(float("inf") if ratio is None else ratio for ratio in drawn)
        tail = round((1 - CONFIDENCE) / 2 * (RESAMPLES + 1))
        high = ordered[-tail]
        return ordered[tail - 1], None if high == float("inf") else high

    def build_document(self, *, judge: bool) -> dict[str, Any]:
        """The target as a part of the bench's JSON document."""
        interval = self.interval
        verdict = NOT_JUDGED
        if judge and interval is not None:
            low, high = interval
            is_met = high is not None and high <= self.at_most
            verdict = MET if is_met else MISSED if low > self.at_most else UNDECIDED
        return {
            "target": self.name,
            "at_most": self.at_most,
            "found": self.found,
            "interval": None if interval is None else list(interval),
            "verdict": verdict,
        }


def _divide_medians(rounds: Sequence[Round]) -> float | None:
    below = median(y for _, y in rounds)
    return median(x for x, _ in rounds) / below if below > 0 else None


def pair_rounds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> list[Round]:
    """The rounds that both have."""
    return [(ours[number], theirs[number]) for number in sorted(ours.keys() & theirs.keys())]
