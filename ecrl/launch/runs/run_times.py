"""Measured run times, and estimates from them."""

import bisect
import itertools
from collections.abc import Mapping, Sequence

# What decides how long a run takes, the most decisive last. Runs are the more alike the longer the end that they share.
TimeKey = tuple[str, ...]


class RunTimes:
    """Measured run times.

    A run is expected to take the median of the runs that are most like it: those with its key, else those that share
    the longest end of it, else all.
    """

    def __init__(self) -> None:
        self._seconds: dict[TimeKey, list[tuple[float, int]]] = {}
        self.measured = 0  # runs

    @staticmethod
    def _keys(key: TimeKey) -> Sequence[TimeKey]:
        return [key[begin:] for begin in range(len(key) + 1)]

    def add(self, key: TimeKey, wall_s: float, runs: int = 1) -> None:
        """Add measured runs that took `wall_s` seconds each."""
        self.measured += runs
        for end in self._keys(key):
            self._seconds.setdefault(end, []).append((wall_s, runs))

    def estimate_run_s(self, key: TimeKey) -> float | None:
        """Expected seconds of a run with this key, or None if nothing was measured."""
        for end in self._keys(key):
            if seconds := self._seconds.get(end):
                return _compute_weighted_median(seconds)
        return None

    def estimate_left_s(self, left: Mapping[TimeKey, int]) -> float | None:
        """Expected seconds of these numbers of runs, one after the other, or None if nothing was measured."""
        expected = [(number, self.estimate_run_s(key)) for key, number in left.items() if number > 0]
        known = [number * each for number, each in expected if each is not None]
        return sum(known) if len(known) == len(expected) else None


def _compute_weighted_median(values: Sequence[tuple[float, int]]) -> float:
    """The weighted median; the larger of two middle values."""
    ordered = sorted(values)
    ends = list(itertools.accumulate(weight for _, weight in ordered))
    return ordered[bisect.bisect_right(ends, ends[-1] // 2)][0]
