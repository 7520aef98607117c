"""How long runs took, and how long others will take by that."""

import bisect
import itertools
from collections.abc import Mapping, Sequence

Kind = tuple[str, str, str]  # data set, model, variant ('': all variants of a suite together)


class RunTimes:
    """Measured run times. A run is expected to take the median of runs like it, else of those of its model and variant,
    else of its variant, else of all."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[tuple[float, int]]] = {}
        self.measured = 0  # runs

    @staticmethod
    def _keys(kind: Kind) -> Sequence[tuple[str, ...]]:
        dataset, model, variant = kind
        return (dataset, model, variant), (model, variant), (variant,), ()

    def add(self, kind: Kind, wall_s: float, runs: int = 1) -> None:
        """Take in measured runs that took `wall_s` each."""
        self.measured += runs
        for key in self._keys(kind):
            self._seconds.setdefault(key, []).append((wall_s, runs))

    def estimate_run_s(self, kind: Kind) -> float | None:
        """What a run of this kind will take, or None while nothing was measured."""
        for key in self._keys(kind):
            if seconds := self._seconds.get(key):
                return _compute_weighted_median(seconds)
        return None

    def estimate_left_s(self, left: Mapping[Kind, int]) -> float | None:
        """What so many runs of each kind will take one after the other, or None where nothing was measured."""
        expected = [(number, self.estimate_run_s(kind)) for kind, number in left.items() if number > 0]
        known = [number * each for number, each in expected if each is not None]
        return sum(known) if len(known) == len(expected) else None


def _compute_weighted_median(values: Sequence[tuple[float, int]]) -> float:
    """The value of the middle one, each counted as often as its weight says; of two, the larger."""
    ordered = sorted(values)
    ends = list(itertools.accumulate(weight for _, weight in ordered))
    return ordered[bisect.bisect_right(ends, ends[-1] // 2)][0]
