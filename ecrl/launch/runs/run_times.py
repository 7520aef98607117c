"""Measured run times, and estimates from them."""

import bisect
import itertools
from collections.abc import Mapping, Sequence

Kind = tuple[str, str, str]  # data set, model, variant ('': all variants of a suite together)


class RunTimes:
    """Measured run times.

    A run is expected to take the median of runs of its kind, else of those of its model and variant, else of its
    variant, else of all.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[tuple[float, int]]] = {}
        self.measured = 0  # runs

    @staticmethod
    def _keys(kind: Kind) -> Sequence[tuple[str, ...]]:
        dataset, model, variant = kind
        return (dataset, model, variant), (model, variant), (variant,), ()

    def add(self, kind: Kind, wall_s: float, runs: int = 1) -> None:
        """Add measured runs that took `wall_s` seconds each."""
        self.measured += runs
        for key in self._keys(kind):
            self._seconds.setdefault(key, []).append((wall_s, runs))

    def estimate_run_s(self, kind: Kind) -> float | None:
        """Expected seconds of a run of this kind, or None if nothing was measured."""
        for key in self._keys(kind):
            if seconds := self._seconds.get(key):
                return _compute_weighted_median(seconds)
        return None

    def estimate_left_s(self, left: Mapping[Kind, int]) -> float | None:
        """Expected seconds of these numbers of runs, one after the other, or None if nothing was measured."""
        expected = [(number, self.estimate_run_s(kind)) for kind, number in left.items() if number > 0]
        known = [number * each for number, each in expected if each is not None]
        return sum(known) if len(known) == len(expected) else None


def _compute_weighted_median(values: Sequence[tuple[float, int]]) -> float:
    """The weighted median; the larger of two middle values."""
    ordered = sorted(values)
    ends = list(itertools.accumulate(weight for _, weight in ordered))
    return ordered[bisect.bisect_right(ends, ends[-1] // 2)][0]
