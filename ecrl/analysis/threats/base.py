"""Threats to validity, the registry of their checks, and the view of a campaign that every check receives."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.campaign.variants import find_main_pair
from ecrl.analysis.run.metrics import REFERENCE, Row, RunAnalysis

# Conditions of a table made elsewhere whose numbers cannot be right. Nothing in it may then be called a gain or a loss.
TABLE_FLAWS = frozenset(
    {"table_contradicts_itself", "impossible", "duplicate_rows", "units", "unequal_failures", "no_spread"}
)


@dataclass(frozen=True)
class Threat:
    """A detected condition. blocking: whether it keeps claims from being CONFIRMED or REFUTED.

    variants: it concerns the claims about all of these variants; (): every claim. claim: it concerns only the claim of
    this name; "": not so.
    """

    code: str
    blocking: bool
    evidence: str
    variants: tuple[str, ...] = ()
    claim: str = ""


@dataclass(frozen=True)
class CampaignFacts:
    """A campaign with data that several checks use.

    registered: see `claims.judge_claims`. chosen: the variants of the main comparison, if somebody chose them.
    """

    campaign: LoadedCampaign
    registered: bool
    chosen: tuple[str, str] | None = None

    @property
    def main_pair(self) -> tuple[str, str] | None:
        """The two variants of the main comparison; None with one engine only."""
        return self.chosen or find_main_pair(self.engines)

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
Blindness = Callable[[CampaignFacts], str | None]


def explain_unbegun(facts: CampaignFacts) -> str | None:
    """Why a check of runs sees nothing."""
    return None if facts.begun else "no run has begun"


def explain_no_manifest(facts: CampaignFacts) -> str | None:
    """Why a check of the manifest sees nothing."""
    return None if facts.campaign.statuses else "there is no manifest"


class CheckRegistry:
    """The checks of one module. by_code: by the code of their threat. blocking: the codes that may block claims.

    blindness: by code, a function that says why the records of a campaign cannot show the condition; None: they can.
    """

    def __init__(self) -> None:
        self.by_code: dict[str, Check] = {}
        self.blocking: set[str] = set()
        self.blindness: dict[str, Blindness] = {}

    def register(
        self, code: str, *, blocks: bool = False, blind: Blindness = explain_unbegun
    ) -> Callable[[Check], Check]:
        """Decorator that registers a function as the check for `code`.

        blocks: whether its threats may block claims. blind: says why it cannot see anything.
        """

        def add_check(check: Check) -> Check:
            self.by_code[code] = check
            self.blindness[code] = blind
            if blocks:
                self.blocking.add(code)
            return check

        return add_check


def format_count(n: int, noun: str) -> str:
    """'1 run', '3 runs'."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def join_some(names: Sequence[str], most: int = 3, mark: str = ", ") -> str:
    """'a, b, c and 4 more'. mark: between the names."""
    rest = len(names) - most
    return mark.join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def pick_numbers(facts: dict[str, Any]) -> dict[str, float]:
    """Every number in nested facts, by its innermost name."""
    found: dict[str, float] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            found |= pick_numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = float(value)
    return found
