"""The comparison of every two variants, with p values that are right for all of them together."""

import itertools
from collections.abc import Callable, Iterable, Sequence

from ecrl.analysis.statistics.compare import Comparison


def compare_pairs(
    variants: Sequence[str], compare: Callable[[str, str], Comparison]
) -> dict[tuple[str, str], tuple[Comparison, float | None]]:
    """The comparison of each later variant with each earlier one, and its Holm-adjusted p, by (later, earlier)."""
    found = {(a, b): compare(a, b) for b, a in itertools.combinations(variants, 2)}
    adjusted = adjust_holm(c.p_value for c in found.values())
    return {pair: (c, p) for (pair, c), p in zip(found.items(), adjusted, strict=True)}


def adjust_holm(values: Iterable[float | None]) -> list[float | None]:
    """Holm-adjusted p values; a missing one counts as 1."""
    # not statsmodels' `multipletests`: it collects garbage at every call, which takes a tenth of a second
    known = list(values)
    found, most = [*known], 0.0
    for rank, i in enumerate(sorted(range(len(known)), key=lambda i: 1.0 if (p := known[i]) is None else p)):
        if (p := known[i]) is not None:
            most = found[i] = max(most, min(1.0, (len(known) - rank) * p))
    return found
