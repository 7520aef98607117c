"""Threats to validity, the registry of their checks, and the view of a campaign that every check receives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.run.metrics import REFERENCE, Row, RunAnalysis


@dataclass(frozen=True)
class Threat:
    """A detected condition. blocking: whether it keeps claims from being CONFIRMED."""

    code: str
    blocking: bool
    evidence: str


@dataclass(frozen=True)
class CampaignFacts:
    """A campaign with data that several checks use. registered: see `claims.judge_claims`."""

    campaign: LoadedCampaign
    registered: bool

    @property
    def begun(self) -> list[RunAnalysis]:
        return [run for run in self.campaign.runs if run.row["outcome"] not in ("missing", "unreadable")]

    @property
    def rows(self) -> list[Row]:
        return [run.row for run in self.campaign.runs]

    @property
    def blocks(self) -> dict[tuple[str, int], list[RunAnalysis]]:
        found: dict[tuple[str, int], list[RunAnalysis]] = {}
        for run in self.campaign.runs:
            found.setdefault((run.row["suite_id"], run.row["seed"]), []).append(run)
        return found

    @property
    def engines(self) -> list[str]:
        """Every variant except the reference."""
        return [v for v in self.campaign.matrix.matrix.variants if v != REFERENCE]

    @property
    def plans_failures(self) -> bool:
        """Whether any suite plans a failure."""
        return any(suite.failures for suite in self.campaign.suites)

    def label(self, suite_id: str, *parts: str) -> str:
        """The name of a suite, or of a part of it ('seed1', 'blocking'), with the suite's values of `[axes]`."""
        name, axes = "/".join((suite_id, *parts)), self.campaign.axes_texts.get(suite_id)
        return f"{name} ({axes})" if axes else name


Check = Callable[[CampaignFacts], Iterable[Threat]]


class CheckRegistry:
    """The checks of one module. by_code: by the code of their threat. blocking: the codes that may block claims."""

    def __init__(self) -> None:
        self.by_code: dict[str, Check] = {}
        self.blocking: set[str] = set()

    def register(self, code: str, *, blocks: bool = False) -> Callable[[Check], Check]:
        """Decorator that registers a function as the check for `code`. blocks: whether its threats may block claims."""

        def add_check(check: Check) -> Check:
            self.by_code[code] = check
            if blocks:
                self.blocking.add(code)
            return check

        return add_check


def format_count(n: int, noun: str) -> str:
    """'1 run', '3 runs'."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def join_some(names: Sequence[str], most: int = 3) -> str:
    """'a, b, c and 4 more'."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def pick_numbers(facts: dict[str, Any]) -> dict[str, float]:
    """Every number in nested facts, by its innermost name."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= pick_numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
