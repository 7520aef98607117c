"""How often a campaign of this shape errs, as a table."""

import math
from collections.abc import Sequence

from ecrl.analysis.claims.calibration import Calibration
from ecrl.analysis.statistics.intervals import wilson

HEADERS = ("claim", "false CONFIRMED", "false REFUTED", "interval covers", "power", "power of the next runs")


def build_rows(found: Sequence[Calibration]) -> list[tuple[str, ...]]:
    """A row for each claim. Every rate stands with its 95 % interval (Wilson)."""
    return [
        (
            one.name,
            _rate(one.false_confirmed, one.trials),
            _rate(one.false_refuted, one.trials),
            _rate(one.covered, one.trials),
            f"{_rate(one.confirmed, one.trials)} {_describe_effect(one)}",
            _rate(one.followed, one.planned) if one.planned else "none suggested",
        )
        for one in found
    ]


def _rate(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{k / n:.1%} [{low:.1%}, {high:.1%}]".replace("%", " %")


def _describe_effect(one: Calibration) -> str:
    """'at 1 % from the bound'; for an equivalence, 'in the middle'."""
    distance = abs(one.effect - one.bound)
    size = f"{math.expm1(distance) * 100:.3g} %" if one.kind == "ratio" else f"{distance:.3g}"
    return f"at {size} from the bound ({'registered' if one.is_registered else 'observed'})"


def describe(trials: int) -> str:
    """What was simulated."""
    return (
        f"Simulated: {trials} campaigns each of this shape with the spreads of these runs (normal d), judged as these"
        " runs are. False: at a true effect that is exactly the claim's bound. Nominal: 2.5 %, or 5 % for `within`."
    )
