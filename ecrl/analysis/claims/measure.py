"""Measures what a claim is about: an effect of two variants, the level of one, or a rate."""

import math
from collections.abc import Sequence
from typing import Literal

from scipy import stats

from ecrl.analysis.claims.result import INCONCLUSIVE, ClaimResult, get_allowed
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, Faults, compare
from ecrl.analysis.statistics.intervals import Kind, clopper_pearson
from ecrl.config.matrix import EXPECT, Claim


def measure_claim(claim: Claim, rows: Sequence[Row], faults: Faults) -> ClaimResult:
    """The numbers of a claim, without a verdict. rows: of the suites that it covers."""
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None, "claims are validated with the matrix"
    if parts["what"] == "rate":
        return _rate(claim, rows, faults)
    a, b = (*claim.variants, None)[:2]
    assert a is not None
    kind: Kind = "ratio" if parts["what"] == "ratio" else "difference"
    c = compare(rows, a, b, claim.metric, kind, faults)
    return measure_comparison(claim, c, _describe_scope(rows, len(c.works), c))


def measure_comparison(claim: Claim, c: Comparison, scope: str) -> ClaimResult:
    """The numbers of a claim about an effect, or about the level of one variant. scope: see `ClaimResult`."""
    low, high = (_put_on_scale_of_d(bound, c.kind) for bound in get_allowed(claim))
    bounds = [bound for bound in (low, high) if math.isfinite(bound)]
    opposite = max((q for bound in bounds if (q := c.p_against(bound)) is not None), default=None)
    p = opposite
    if "within" in claim.expect:
        p = None if c.estimate is None else c.estimate.compute_tost_p(low, high)
    effect = c.overall
    return ClaimResult(
        claim,
        INCONCLUSIVE,
        INCONCLUSIVE,
        effect.center if effect else None,
        effect.low if effect else None,
        effect.high if effect else None,
        p,
        None,
        len(c.pairs),
        c.n_suites,
        (),
        c,
        p_opposite=opposite,
        scope=scope,
    )


def _put_on_scale_of_d(bound: float, kind: Kind) -> float:
    """A bound of a claim on the scale of d. A ratio is always above 0, so none of 0 or less is ever reached."""
    if kind == "difference" or bound == math.inf:
        return bound
    return math.log(bound) if bound > 0 else -math.inf


def _rate(claim: Claim, rows: Sequence[Row], faults: Faults) -> ClaimResult:
    """Measure a claim about a rate.

    Metric `correct`: the share of the first variant's registered runs that are correct. Failed, undecided and missing
    runs count as not correct.
    Any other metric: the share of blocks in which the first variant is above the second.
    """
    a, b = (*claim.variants, None)[:2]
    parts = EXPECT.fullmatch(claim.expect)
    assert parts is not None
    assert a is not None
    if claim.metric == "correct":
        runs = [row for row in rows if row["variant"] == a]
        trials = len(runs)
        successes = sum(row["outcome"] == "completed" and row["correct"] is True for row in runs)
        suites = len({row["suite_id"] for row in runs})
    else:
        c = compare(rows, a, b, claim.metric, "difference", faults)
        trials, successes, suites = len(c.pairs), sum(pair.d > 0 for pair in c.pairs), c.n_suites
    if not trials:
        return ClaimResult(claim, INCONCLUSIVE, INCONCLUSIVE, None, None, None, None, None, 0, 0, ())
    low, high = clopper_pearson(successes, trials)
    bound = 1 - float(parts["margin"]) if parts["margin"] else float(parts["threshold"])
    side: Literal["less", "greater"] = "less" if parts["op"] in ("<", "<=") else "greater"
    other: Literal["less", "greater"] = "less" if side == "greater" else "greater"
    bound = min(max(bound, 0.0), 1.0)
    # Doubled, so that the level of each side is that of the interval's end, also after Holm.
    p, opposite = (
        min(1.0, 2 * float(stats.binomtest(successes, trials, bound, alternative=way).pvalue)) for way in (side, other)
    )
    return ClaimResult(
        claim, INCONCLUSIVE, INCONCLUSIVE, successes / trials, low, high, p, None, trials, suites, (),
        p_opposite=opposite, scope=_describe_scope(rows, suites, None),
    )  # fmt: skip


def _describe_scope(rows: Sequence[Row], suites: int, c: Comparison | None) -> str:
    """Whom a verdict speaks of. c: the comparison behind it; a rate counts runs, and speaks of these suites alone.

    'for cnn on fashion-mini, 6 seeds', 'for these 4 suites', 'for workloads like these 8 suites'.
    """
    if suites > 1:
        like = "workloads like " if c is not None and c.estimand == "workloads" else ""
        return f"for {like}these {suites} suites"
    seeds = len({row["seed"] for row in rows} if c is None else {pair.seed for pair in c.pairs})
    where = " on ".join(str(rows[0][axis]) for axis in ("model", "dataset") if rows and rows[0].get(axis))
    return f"for {where or 'this suite'}, {seeds} seed{'' if seeds == 1 else 's'}"
