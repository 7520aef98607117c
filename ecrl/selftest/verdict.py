"""The verdicts of checks, and the sentences that report them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PASS = "pass"
TORN = "torn"  # a snapshot is not the state after its step
WRONG = "wrong"  # another promise is broken
WARN = "warn"  # worth knowing, but not a fault of ecrl
INCONCLUSIVE = "inconclusive"  # nothing was shown; never a pass


@dataclass(frozen=True)
class CheckResult:
    """The result of one check. evidence: one sentence for people. details: numbers for programs."""

    verdict: str
    evidence: str
    details: dict[str, Any] = field(default_factory=dict)


# The checks of a device in order: the name and the function of each.
Plan = Iterator[tuple[str, Callable[[], CheckResult]]]
