"""The multiverse of a claim: the verdict of every defensible analysis of the same runs.

Definitions: docs/metrics.md, "Multiverse".
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ecrl.analysis.campaign.axes import select_rows
from ecrl.analysis.claims.measure import measure_comparison
from ecrl.analysis.claims.result import ClaimResult, get_allowed
from ecrl.analysis.claims.verdict import decide, explain_few
from ecrl.analysis.run.metrics import REFERENCE, Row, get_run_key
from ecrl.analysis.statistics.alternatives import (
    Alternative,
    Center,
    choose,
    drop_blocks,
    find_outlying,
    list_removable,
    remove,
    rescale,
)
from ecrl.analysis.statistics.compare import Comparison, Faults, compare
from ecrl.analysis.statistics.estimate import Estimand
from ecrl.analysis.statistics.pairwise import adjust_holm
from ecrl.config.matrix import Claim

MOST_ANALYSES = 200
# Metrics whose denominator is the wall-clock; `wall_s` is the wall-clock itself.
_PER_WALL = ("goodput_steps_per_s", "ettr_ref")

STARTUP, WARM_UP, SCALE, CENTER = "startup and shutdown", "the first warm-up", "scale", "center"
ABOUT, LEFT_OUT, OUTLYING = "about", "left out", "outlying blocks"
IN, OUT, NONE = "in", "out", ""
LOG, LINEAR = "log", "linear"
Choices = Mapping[str, str]


@dataclass(frozen=True)
class Analysis:
    """One way to analyse a claim. choices: an option for each dimension that was crossed.

    estimate, low, high: on the claim's scale. verdict: what the numbers alone say, without threats and looks.
    """

    choices: Choices
    estimate: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Multiverse:
    """Every defensible analysis of a claim, the registered one first. None at all: no analysis of these runs decides.

    judged: the claim as the report judges it; None for the main comparison of a report without claims, which is asked
    whether it lies above "no effect". left_out_of: the suites (or blocks) one of which could be left out; of those,
    only the ones that move the effect most are.
    """

    claim: Claim
    judged: ClaimResult | None
    analyses: tuple[Analysis, ...]
    few: str | None = None
    left_out_of: int = 0

    @property
    def registered(self) -> Analysis:
        """The analysis that the report makes."""
        return self.analyses[0]

    @property
    def bounds(self) -> tuple[float, ...]:
        """The finite ends of the values that the claim allows."""
        return tuple(bound for bound in get_allowed(self.claim) if abs(bound) < float("inf"))

    @property
    def counts(self) -> Counter[str]:
        """The number of analyses by verdict."""
        return Counter(one.verdict for one in self.analyses)

    @property
    def dimensions(self) -> dict[str, tuple[str, ...]]:
        """The options of every choice that was crossed, the registered one first."""
        found = {name: dict.fromkeys(one.choices[name] for one in self.analyses) for name in self.registered.choices}
        return {name: tuple(options) for name, options in found.items() if len(options) > 1}

    def find_common(self, verdict: str) -> tuple[list[tuple[str, str]], int]:
        """The (dimension, option) that all analyses of this verdict share, and 0; else the commonest, and how often.

        Options that differ from the registered analysis explain more, so others are given only where there are none.
        """
        own = [one for one in self.analyses if one.verdict == verdict]
        found = Counter((name, one.choices[name]) for one in own for name in self.dimensions)
        other = [pair for pair in found if self.registered.choices[pair[0]] != pair[1]]
        for pairs in (other, list(found)):
            if shared := [pair for pair in pairs if found[pair] == len(own)]:
                return shared, 0
        most = max(other or found, key=lambda pair: found[pair], default=None)
        return ([], 0) if most is None else ([most], found[most])


def explore(
    claim: Claim,
    judged: ClaimResult | None,
    others: Sequence[ClaimResult],
    rows: Sequence[Row],
    faults: Faults,
    first_warm_ups_s: Mapping[tuple[str, str, int], float],
) -> Multiverse | None:
    """The multiverse of a claim about an effect of two variants; None of another claim, or without any pair.

    judged: see `Multiverse`. others: the other claims, for Holm. first_warm_ups_s: of runs, by suite, variant and seed.
    """
    if claim.compare is None or claim.expect.startswith("rate"):
        return None
    own = [row for row in select_rows(rows, claim.where) if row["variant"] in (*claim.compare, REFERENCE)]
    a, b = claim.compare
    c = compare(own, a, b, claim.metric, "ratio" if claim.expect.startswith("ratio") else "difference", faults)
    if c.estimate is None:
        return None
    if few := explain_few(measure_comparison(claim, c, "")):
        return Multiverse(claim, judged, (), few)
    removable = list_removable(c)
    found = tuple(_analyse(claim, others, list(_cross(claim, c, own, faults, first_warm_ups_s, removable))))
    return Multiverse(claim, judged, found, None, len(removable))


def _analyse(
    claim: Claim, others: Sequence[ClaimResult], crossed: Sequence[tuple[Choices, Alternative]]
) -> Iterator[Analysis]:
    """Judge every alternative that may decide, as the report does. The first one, as registered, stays."""
    for place, (choices, c) in enumerate(crossed):
        measured = measure_comparison(claim, c, "")
        if measured.estimate is None or (place and (not c.can_decide or explain_few(measured))):
            continue
        p, opposite = (
            adjust_holm([getattr(measured, name), *(getattr(one, name) for one in others)])[0]
            for name in ("p", "p_opposite")
        )
        verdict, _ = decide(replace(measured, p_adjusted=p, p_opposite_adjusted=opposite), ())
        yield Analysis(choices, measured.estimate, measured.low, measured.high, verdict)


def _cross(
    claim: Claim,
    c: Comparison,
    rows: Sequence[Row],
    faults: Faults,
    first_warm_ups_s: Mapping[tuple[str, str, int], float],
    removable: Sequence[str],
) -> Iterator[tuple[Choices, Alternative]]:
    """Every combination of the options that apply, at most MOST_ANALYSES; that of the registered analysis first."""
    sources = _list_sources(claim, c, rows, faults, first_warm_ups_s)
    scaled = [found for choices, source in sources for found in _list_scales(claim, choices, source)]
    outlying = find_outlying(c)
    kept = [({OUTLYING: IN}, frozenset[tuple[str, int | None]]()), *([({OUTLYING: OUT}, outlying)] if outlying else [])]
    subjects = _list_subjects(c)
    room = MOST_ANALYSES // (len(scaled) * len(kept) * len(subjects)) - 1
    left_out = (NONE, *removable[: max(0, room)])
    for name, (others, dropped), (chosen, one), (about, center) in itertools.product(left_out, kept, scaled, subjects):
        fewer = drop_blocks(one, dropped)
        remaining = remove(fewer, name) if name else fewer
        choices = {**chosen, CENTER: center, ABOUT: about, OUTLYING: others[OUTLYING], LEFT_OUT: name}
        yield choices, choose(remaining, about, center)


def _list_sources(
    claim: Claim,
    c: Comparison,
    rows: Sequence[Row],
    faults: Faults,
    first_warm_ups_s: Mapping[tuple[str, str, int], float],
) -> list[tuple[Choices, Comparison]]:
    """The comparison with and without the parts of the wall-clock that a longer run would dilute."""
    found: list[tuple[Choices, Comparison]] = [({STARTUP: IN, WARM_UP: IN}, c)]
    if claim.metric not in (*_PER_WALL, "wall_s"):
        return found
    for startup, warm_up in ((IN, OUT), (OUT, IN), (OUT, OUT)):
        changed = [
            {key: row.get(key, row["suite_id"]) for key in ("suite_id", "variant", "seed", "uses")}
            | {claim.metric: _rebase(row, claim.metric, startup, warm_up, first_warm_ups_s.get(get_run_key(row)))}
            for row in rows
        ]
        other = compare(changed, c.a, c.b, c.metric, c.kind, faults)
        if len(other.pairs) == len(c.pairs):
            found.append(({STARTUP: startup, WARM_UP: warm_up}, other))
    return found


def _rebase(row: Row, metric: str, startup: str, warm_up: str, first_warm_up_s: float | None) -> float | None:
    """The metric over less of the wall-clock; None if a part of it is not known."""
    parts = [row["wall_s"], *([row["startup_s"], row["shutdown_s"]] if startup == OUT else [])]
    parts += [first_warm_up_s] if warm_up == OUT else []
    if row[metric] is None or None in parts:
        return None
    left_s = float(parts[0] - sum(parts[1:]))
    if left_s <= 0:
        return None
    return left_s if metric == "wall_s" else float(row[metric] * row["wall_s"] / left_s)


def _list_scales(claim: Claim, choices: Choices, c: Comparison) -> Iterator[tuple[Choices, Comparison]]:
    """The comparison on its own scale, and on the other one where the claim's bound means the same there."""
    registered, other = (LOG, LINEAR) if c.kind == "ratio" else (LINEAR, LOG)
    yield {**choices, SCALE: registered}, c
    if c.kind == "ratio" or get_allowed(claim) in ((0.0, float("inf")), (-float("inf"), 0.0)):
        rescaled = rescale(c)
        if rescaled is not None:
            yield {**choices, SCALE: other}, rescaled


def _list_subjects(c: Comparison) -> list[tuple[Estimand, Center]]:
    """What the effect may be about and by what center, as registered first."""
    # The median of a few suites whose seeds are random has no test here.
    several: list[tuple[Estimand, Center]] = [("these suites", "mean"), ("workloads", "mean"), ("workloads", "median")]
    one: list[tuple[Estimand, Center]] = [("suite", "mean"), ("suite", "median")]
    registered: tuple[Estimand, Center] = (c.estimand, "mean")
    every = one if c.estimand == "suite" else several
    return [registered, *(other for other in every if other != registered and choose(c, *other).can_decide)]
