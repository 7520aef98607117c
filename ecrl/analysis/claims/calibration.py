"""How often a campaign of this shape errs: its claims judged on simulated runs with its own spreads.

Definitions: docs/metrics.md, "Calibration".
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecrl.analysis.claims.claims import decide_claims
from ecrl.analysis.claims.measure import measure_comparison
from ecrl.analysis.claims.power import MAX_SEEDS, Aim, Design, build_aim, plan_seeds, plan_suites
from ecrl.analysis.claims.result import CONFIRMED, REFUTED, ClaimResult
from ecrl.analysis.statistics.compare import Comparison, Pair
from ecrl.analysis.statistics.intervals import Kind
from ecrl.config.matrix import Claim

TRIALS = 400  # the standard error of a rate of 2.5 % is then 0.8 %


@dataclass(frozen=True)
class Shape:
    """What is simulated: the claim's comparison with normal d. All values are on the scale of d.

    counts: the pairs of every suite. within: the SD of d over the seeds of every suite. offsets: the true mean of every
    suite less that of all; None: suites are random, with the SD `between`.
    """

    c: Comparison
    counts: tuple[int, ...]
    within: tuple[float, ...]
    offsets: tuple[float, ...] | None
    between: float

    def draw(self, rng: np.random.Generator, center: float) -> Comparison:
        """One simulated campaign whose true mean is `center`."""
        return self._draw(rng, center, self.counts, self.within, self.offsets)

    def draw_design(self, rng: np.random.Generator, center: float, design: Design) -> Comparison:
        """A campaign of another size: more seeds in the same suites, or more suites."""
        typical = math.sqrt(sum(sd**2 for sd in self.within) / len(self.within))
        same = design.suites == len(self.within)
        within = self.within if same else (typical,) * design.suites
        return self._draw(rng, center, (design.seeds,) * design.suites, within, self.offsets if same else None)

    def _draw(
        self,
        rng: np.random.Generator,
        center: float,
        counts: Sequence[int],
        within: Sequence[float],
        offsets: Sequence[float] | None,
    ) -> Comparison:
        shifts = rng.normal(0, self.between, len(counts)).tolist() if offsets is None else offsets
        pairs = [
            Pair(f"s{i}", seed, 1.0, 1.0, float(d))
            for i, (n, sd, shift) in enumerate(zip(counts, within, shifts, strict=True))
            for seed, d in enumerate(rng.normal(center + shift, sd, n))
        ]
        works = tuple(frozenset({f"s{i}"}) for i in range(len(counts)))
        return Comparison(self.c.a, self.c.b, self.c.metric, self.c.kind, tuple(pairs), (), works)


@dataclass(frozen=True)
class Calibration:
    """The rates for one claim. Counts are of `trials` simulated campaigns.

    bound: the true effect at which CONFIRMED and REFUTED are both wrong, and effect: the one whose power is asked, on
    the scale of d. covered: intervals that hold the true effect. planned: campaigns of that effect that were not
    decided and for which more runs were suggested; followed: those of them that the suggested campaign CONFIRMED.
    """

    name: str
    kind: Kind
    basis: str
    trials: int
    bound: float
    effect: float
    is_registered: bool
    false_confirmed: int
    false_refuted: int
    covered: int
    confirmed: int
    planned: int
    followed: int


def describe_shape(judged: ClaimResult) -> str:
    """What a calibration was made for: '24 pairs in 8 suites, 95 % interval 1.012 to 1.024'."""
    ends = "no interval" if judged.low is None else f"95 % interval {judged.low:.6g} to {judged.high:.6g}"
    return f"{judged.n_pairs} pairs in {judged.n_suites} suites, {ends}"


def build_shape(judged: ClaimResult) -> Shape | None:
    """What to simulate for a claim; None if it names no effect, or if its runs show no spread."""
    c = judged.comparison
    if c is None or c.estimate is None or not c.estimate.error or not c.estimate.error[0]:
        return None
    inside = c.estimate_as("these suites")
    assert inside is not None
    counts, pooled = tuple(map(len, inside.groups)), inside.sd or 0.0
    if c.estimand == "workloads":
        noise = pooled**2 * float(np.mean([1 / n for n in counts]))
        between = math.sqrt(max(0.0, float(np.var(inside.means, ddof=1)) - noise))
        return Shape(c, counts, (pooled,) * len(counts), None, between)
    own = tuple(float(np.std(group, ddof=1)) for group in inside.groups)
    return Shape(c, counts, own, tuple(mean - inside.center for mean in inside.means), 0.0)


def calibrate(judged: Sequence[ClaimResult], trials: int = TRIALS, seed: int = 0) -> Iterator[Calibration]:
    """The rates of every claim that names an effect and whose runs show a spread."""
    for place, one in enumerate(judged):
        shape, aim = build_shape(one), build_aim(one, len(judged))
        if shape is not None and aim is not None:
            yield _calibrate_claim(one, shape, aim, len(judged), trials, np.random.default_rng([seed, place]))


def _calibrate_claim(
    judged: ClaimResult, shape: Shape, aim: Aim, claims: int, trials: int, rng: np.random.Generator
) -> Calibration:
    bound, effect = _locate_bound(judged, shape.c), _locate_effect(judged, shape.c, aim)
    at_bound = [_judge(judged.claim, shape.draw(rng, bound), claims) for _ in range(trials)]
    at_effect = [_judge(judged.claim, shape.draw(rng, effect), claims) for _ in range(trials)]
    followed = [
        _judge(judged.claim, shape.draw_design(rng, effect, design), claims).verdict == CONFIRMED
        for one in at_effect
        if one.verdict != CONFIRMED and (design := _plan(one, claims)) is not None
    ]
    return Calibration(
        judged.claim.name,
        shape.c.kind,
        describe_shape(judged),
        trials,
        bound,
        effect,
        aim.is_registered,
        sum(one.verdict == CONFIRMED for one in at_bound),
        sum(one.verdict == REFUTED for one in at_bound),
        sum(_covers(one, bound) for one in at_bound),
        sum(one.verdict == CONFIRMED for one in at_effect),
        len(followed),
        sum(followed),
    )


def _judge(claim: Claim, c: Comparison, claims: int) -> ClaimResult:
    """The verdict of one claim among `claims`, in the worst case of Holm: it is decided before the others."""
    one = measure_comparison(claim, c, "")
    return decide_claims([one, *[replace(one, p=None, p_opposite=None, estimate=None)] * (claims - 1)])[0]


def _plan(judged: ClaimResult, claims: int) -> Design | None:
    """The campaign that the report would suggest."""
    c, aim = judged.comparison, build_aim(judged, claims)
    if c is None or aim is None:
        return None
    seeds = max(len({pair.seed for pair in c.pairs}), 1)
    design = plan_seeds(c, aim, len(c.works))
    return design if design is not None and design.seeds <= MAX_SEEDS else plan_suites(c, aim, seeds)


def _covers(judged: ClaimResult, d: float) -> bool:
    c = judged.comparison
    assert c is not None
    assert c.estimate is not None
    low, high = c.estimate.interval()
    return low is not None and high is not None and low <= d <= high


def _scale(value: float, c: Comparison) -> float:
    return math.log(value) if c.kind == "ratio" else value


def _locate_bound(judged: ClaimResult, c: Comparison) -> float:
    """The end of the allowed values: the largest one, if both ends are finite."""
    low, high = judged.allowed
    return _scale(high if math.isfinite(high) else low, c)


def _locate_effect(judged: ClaimResult, c: Comparison, aim: Aim) -> float:
    low, high = judged.allowed
    if math.isfinite(low) and math.isfinite(high):
        return (_scale(low, c) + _scale(high, c)) / 2 if low > 0 or c.kind == "difference" else 0.0
    return _locate_bound(judged, c) + (aim.distance if math.isfinite(low) else -aim.distance)
