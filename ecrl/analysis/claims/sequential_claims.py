"""The sequential test of a claim, on the first results in the order in which they were registered."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ecrl.analysis.campaign.registration import Registration
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, Faults, Pair, compare
from ecrl.analysis.statistics.sequential import compute_log_e, compute_rho

Observations = list[tuple[int, float]]  # (generation that registered it, d)


def test_sequentially(
    judged: ClaimResult, rows: Sequence[Row], faults: Faults, registration: Registration
) -> ClaimResult:
    """Add the sequential test of a claim that names a bound. rows: of the variants that the claim needs."""
    c, threshold = judged.comparison, judged.threshold
    first = registration.get_first_rows(rows)
    if c is None or threshold is None or first is None or (c.kind == "ratio" and threshold <= 0):
        return judged
    null = math.log(threshold) if c.kind == "ratio" else threshold
    sign = 1.0 if judged.allowed[1] == math.inf else -1.0
    seen = compare(first, c.a, c.b, c.metric, c.kind, faults)
    # The fault that leaves a block out is that of the newest results: whoever makes a block again could choose it.
    if registration.list_blocks_made_again(rows) & {(suite_id, seed) for suite_id, seed, _ in seen.missing}:
        return judged
    d = _list_observations(seen, registration)
    rho = compute_rho([value - null for generation, value in d if generation == 0])
    if rho is None:
        return judged
    shifted = [sign * (value - null) for _, value in d]
    return replace(
        judged, log_e=compute_log_e(shifted, rho), log_e_opposite=compute_log_e([-value for value in shifted], rho)
    )


def _list_observations(c: Comparison, registration: Registration) -> Observations:
    """Independent observations, each symmetric about the mean that the claim is about."""
    numbered = [(_get_generation(c, pair, registration), pair) for pair in c.pairs]
    if c.estimand == "suite":
        return [(number, pair.d) for number, pair in numbered]
    groups: dict[object, Observations] = {}
    for number, pair in numbered:
        name = pair.suite_id if c.estimand == "workloads" else pair.seed
        groups.setdefault(name, []).append((number, pair.d))
    return _average_suites(groups) if c.estimand == "workloads" else _average_rounds(groups, len(c.works))


def _average_suites(groups: Mapping[object, Observations]) -> Observations:
    """The mean of each suite over the blocks that were registered with it."""
    observed = []
    for own in groups.values():
        begun = min(number for number, _ in own)
        # Those that a later generation added would repeat the sign of the suite, so they are no new observations.
        early = [d for number, d in own if number == begun]
        observed.append((begun, math.fsum(early) / len(early)))
    return observed


def _average_rounds(groups: Mapping[object, Observations], suites: int) -> Observations:
    """The mean of all suites in each seed that all of them have."""
    # The blocks of one suite lie about the mean of that suite; only a whole round lies about the mean of all.
    return [
        (max(number for number, _ in own), math.fsum(d for _, d in own) / suites)
        for own in groups.values()
        if len(own) == suites
    ]


def _get_generation(c: Comparison, pair: Pair, registration: Registration) -> int:
    """The oldest generation in which the pair was registered whole."""
    variants = (c.a,) if c.b is None else (c.a, c.b)
    suites = (pair.suite_id, *pair.alike)
    found = registration.generations
    return min(max(found.get((s, v, pair.seed or 0), 0) for v in variants) for s in suites)
