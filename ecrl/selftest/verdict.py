"""What a check comes to, in words, and the sentences that say so."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

PASS = "pass"
TORN = "torn"  # a snapshot is not the state after its step
WRONG = "wrong"  # another promise is broken
WARN = "warn"  # worth knowing, and no fault of ecrl
INCONCLUSIVE = "inconclusive"  # nothing was shown; never a pass


@dataclass(frozen=True)
class CheckResult:
    """What one check came to. evidence: one sentence for people; details: numbers for programs."""

    verdict: str
    evidence: str
    details: dict[str, Any] = field(default_factory=dict)


# The checks of a device in order: each one's name, and what carries it out.
Plan = Iterator[tuple[str, Callable[[], CheckResult]]]
