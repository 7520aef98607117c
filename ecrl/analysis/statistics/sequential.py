"""A test that is valid at every look: the one-sided mixture e-process of a symmetric difference.

Definitions: docs/metrics.md, "Looks".
"""

import math
from collections.abc import Sequence

from scipy import stats

DECISION = 40.0  # 1 / 0.025, the one-sided level of a 95 % interval
SCALE = 0.5  # rho times the root mean square of d: the effect, in SDs, that the test is sharpest for


def compute_rho(first: Sequence[float]) -> float | None:
    """The parameter of the mixture, from the observations that were registered first; None without spread."""
    # A root mean square ignores the signs of d. So it does not depend on what the test asks, and may use the data.
    square = math.fsum(d**2 for d in first) / len(first) if first else 0.0
    return SCALE / math.sqrt(square) if square > 0 else None


def compute_log_e(d: Sequence[float], rho: float) -> float:
    """ln E of "d is symmetric about 0 or lies below it". A large E speaks for a mean above 0.

    E = 2 Phi(rho S / sqrt v) exp(rho^2 S^2 / 2v) / sqrt v, with S = sum d and v = 1 + rho^2 sum d^2.
    """
    total, v = rho * math.fsum(d), 1 + rho**2 * math.fsum(x**2 for x in d)
    return math.log(2) + float(stats.norm.logcdf(total / math.sqrt(v))) + total**2 / (2 * v) - math.log(v) / 2


def adjust_e(logs: Sequence[float | None]) -> list[float | None]:
    """e-Holm: each E divided by the number of claims that are not decided before it. Values are on the log scale."""
    order = sorted((i for i, value in enumerate(logs) if value is not None), key=lambda i: -(logs[i] or 0.0))
    found: list[float | None] = [None] * len(logs)
    least = math.inf
    for rank, i in enumerate(order):
        least = min(least, (logs[i] or 0.0) - math.log(len(logs) - rank))
        found[i] = least
    return found
