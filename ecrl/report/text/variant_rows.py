"""One row per variant, the best first: what it keeps, what it costs, what it promises and what was shown."""

from collections import Counter
from dataclasses import dataclass

from ecrl import plugins
from ecrl.analysis.campaign.variants import VariantRecipe
from ecrl.analysis.evidence import Evidence
from ecrl.analysis.run.metrics import REFERENCE
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.rates import recoveries
from ecrl.analysis.statistics.unit_costs import FAILURE, REPLAY, SLOWER_STEPS, STALL, measure_unit_cost
from ecrl.report.text.document import Table
from ecrl.report.text.numbers import UNKNOWN, estimate, number

_COSTS = {
    STALL: "stall per checkpoint (s)",
    SLOWER_STEPS: "slower steps per checkpoint (s)",
    FAILURE: "one failure (s)",
    REPLAY: "one failure (steps)",
}


@dataclass(frozen=True)
class Ranked:
    """A variant with its goodput relative to that of `base`; None if no block has both."""

    variant: str
    base: str
    comparison: Comparison | None
    goodput: float | None


def rank_variants(evidence: Evidence) -> list[Ranked]:
    """The variants, that with the most goodput first; behind them those without a known goodput, and the reference."""
    base = REFERENCE if REFERENCE in evidence.variants else evidence.headline[1] if evidence.headline else ""
    found = []
    for variant in evidence.variants:
        c = evidence.compare(variant, base) if base and variant != base else None
        known = 1.0 if variant == base else c.overall.center if c is not None and c.overall is not None else None
        found.append(Ranked(variant, base, c, known))
    return sorted(found, key=lambda one: (one.variant == REFERENCE, one.goodput is None, -(one.goodput or 0)))


def build_variant_table(evidence: Evidence) -> Table:
    """The table of the first screen."""
    ranked = rank_variants(evidence)
    costs = [cost for cost in _COSTS if evidence.plans_failures or cost not in (FAILURE, REPLAY)]
    struck = ("recovered",) if evidence.plans_failures else ()
    rows = tuple(
        (
            one.variant,
            _format_goodput(one),
            *(_format_cost(evidence, one.variant, cost) for cost in costs),
            describe_promises(evidence, one.variant),
            *(_count_recovered(evidence, one.variant) for _ in struck),
            _describe_verdicts(evidence, one.variant),
        )
        for one in ranked
    )
    base = ranked[0].base if ranked else ""
    kept = "goodput kept" if base == REFERENCE else f"goodput / {base}" if base else "goodput"
    headers = ("variant", kept, *(_COSTS[cost] for cost in costs), "durable, verified", *struck, "verdict")
    return Table(headers, rows, frozenset({"variant", "durable, verified", "verdict"}))


def _format_goodput(one: Ranked) -> str:
    return ("1" if one.goodput is not None else UNKNOWN) if one.comparison is None else estimate(one.comparison)


def _format_cost(evidence: Evidence, variant: str, cost: str) -> str:
    """A cost; slower steps with their interval, as they may be none."""
    if variant == REFERENCE:
        return UNKNOWN
    c = measure_unit_cost(evidence.rows, variant, cost, evidence.faults)
    if cost == SLOWER_STEPS:
        return estimate(c)
    return number(None if c.overall is None else c.overall.center, 3)


def describe_promises(evidence: Evidence, variant: str) -> str:
    """'yes, no': whether the engine flushes what it writes, and whether it verifies what it restores."""
    if variant == REFERENCE:
        return UNKNOWN
    recipe = evidence.recipes.get(variant)
    if recipe is None:  # the engine of a table made elsewhere
        return "unknown"
    verified = plugins.declared("engine", recipe.engine).get("verified")
    return f"{describe_fsync(recipe)}, {'yes' if verified else 'no'}"


def describe_fsync(recipe: VariantRecipe) -> str:
    """Whether an engine flushes what it writes: always, never, or depending on its option."""
    if plugins.declared("engine", recipe.engine).get("durable") or recipe.options.get("fsync") == "true":
        return "yes"
    return "where fsync is true" if "fsync" in recipe.options else "no"


def _count_recovered(evidence: Evidence, variant: str) -> str:
    decided = [known for known in recoveries(evidence.rows, variant).values() if known is not None]
    return f"{sum(decided)} of {len(decided)}" if decided and variant != REFERENCE else UNKNOWN


def _describe_verdicts(evidence: Evidence, variant: str) -> str:
    """The verdicts of the claims whose subject is this variant: 'CONFIRMED', '2 CONFIRMED, REFUTED'."""
    words = Counter(j.verdict.partition(":")[0] for j in evidence.claims if j.claim.variants[0] == variant)
    return ", ".join(word if n == 1 else f"{n} {word}" for word, n in words.items()) or UNKNOWN
