"""`<prefix>_report.json`: the numbers of the report's main tables, each with its formula and the records behind it.

docs/provenance.md describes every key.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ecrl import __version__
from ecrl.analysis.campaign.tables import build_summary_frame, geometric_mean, mean
from ecrl.analysis.claims.result import ClaimResult
from ecrl.analysis.evidence import GOODPUT, Arm, Evidence
from ecrl.analysis.frames.columns import to_rows
from ecrl.analysis.frames.runs import build_runs_frame
from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS, Row
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import Kind
from ecrl.analysis.statistics.unit_costs import UNIT_COSTS, measure_unit_cost
from ecrl.report.text.variant_rows import rank_variants

SCHEMA = 1
_PAGE = "docs/metrics.md"
# metric -> unit, formula, and section of docs/metrics.md
_METRICS: dict[str, tuple[str, str, str]] = {
    GOODPUT: ("steps/s", "U / W", "goodput-and-ettr"),
    "goodput_steady_steps_per_s": ("steps/s", "U / (W - startup - shutdown)", "goodput-and-ettr"),
    "ettr_ref": ("1", "U tref / W", "goodput-and-ettr"),
    "wall_s": ("s", "exit - spawn", "the-time-ledger"),
    "stall_s": ("s", "snapshot_stall + persist_stall", "stall"),
    "interference_s": ("s", "sum of (step - tref) over steady steps", "interference"),
    "rewarm_s": ("s", "sum of (step - tref) over first steps of attempts", "warm-up"),
    "replayed_steps": ("steps", "executed - unique", "replay-and-lost-work"),
    "wasted_s": ("s", "detect + restart + restore + lost_step + replay + rewarm", "the-cost-of-a-failure"),
}
_COMPARED: tuple[tuple[str, Kind], ...] = (
    (GOODPUT, "ratio"), ("goodput_steady_steps_per_s", "ratio"), ("ettr_ref", "ratio"), ("wall_s", "ratio"),
    ("stall_s", "difference"), ("interference_s", "difference"), ("rewarm_s", "difference"),
    ("replayed_steps", "difference"), ("wasted_s", "difference"),
)  # fmt: skip

_OF_REFERENCE = REFERENCE_METRICS | {"rewarm_s", "wasted_s"}  # computed with the reference's step time

Block = tuple[str, int | None]


@dataclass(frozen=True)
class Number:
    """One number. variants: whose runs it is computed from. bounds: of its 95 % interval; None: it has none."""

    name: str
    value: float | None
    unit: str
    formula: str
    section: str
    blocks: tuple[Block, ...]
    variants: tuple[str, ...]
    bounds: tuple[float | None, float | None] | None = None


def build_text(evidence: Evidence) -> str:
    """The document as text."""
    return json.dumps(build_document(evidence), indent=1, allow_nan=False) + "\n"


def build_document(evidence: Evidence) -> dict[str, Any]:
    """The numbers, the sets of blocks that they rest on, and the digests of the event files of every run."""
    numbers = [*_list_answer(evidence), *_list_levels(evidence), *_list_comparisons(evidence), *_list_claims(evidence)]
    sets: dict[tuple[Block, ...], str] = {}
    written = [_write(number, sets) for number in numbers]
    used = {(suite, variant, seed) for n in numbers for suite, seed in n.blocks for variant in n.variants}
    return {
        "schema": SCHEMA,
        "campaign": evidence.prefix,
        "ecrl": __version__,
        "numbers": written,
        "block_sets": {name: [{"suite": s, "seed": seed} for s, seed in blocks] for blocks, name in sets.items()},
        "events": {run.name: run.facts.get("event_digests", {}) for run in evidence.runs if run.key in used},
    }


def _write(number: Number, sets: dict[tuple[Block, ...], str]) -> dict[str, Any]:
    # Most numbers rest on the same blocks, of which a large campaign has thousands.
    name = sets.setdefault(number.blocks, f"blocks {len(sets) + 1}")
    bounds = () if number.bounds is None else number.bounds
    return {
        "name": number.name,
        "value": _finite(number.value),
        "unit": number.unit,
        **dict(zip(("low", "high"), map(_finite, bounds), strict=False)),
        "formula": number.formula,
        "defined_in": f"{_PAGE}#{number.section}",
        "variants": list(number.variants),
        "blocks": name,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None  # JSON has no infinity


def _list_answer(evidence: Evidence) -> Iterable[Number]:
    """What each variant keeps and costs, as in the table of the answer: every comparison uses its own blocks."""
    for one in rank_variants(evidence):
        if (c := one.comparison) is not None and c.overall is not None:
            name = "goodput kept" if one.base == REFERENCE else f"goodput / {one.base}"
            yield _build_compared(f"{one.variant}: {name}", c)
        yield from _list_unit_costs(evidence, Arm(one.variant))


def _list_levels(evidence: Evidence) -> Iterable[Number]:
    """The means over the whole blocks, as in the report's first table of results."""
    summary = to_rows(build_summary_frame(build_runs_frame(evidence.whole, evidence.axes), evidence.axes))
    for arm in evidence.arms:
        own = [row for row in evidence.whole if arm.holds(row)]
        if own:
            yield from _list_levels_of(arm, own, [row for row in summary if arm.holds(row)])
        if arm.cell:
            yield from _list_unit_costs(evidence, arm)


def _list_levels_of(arm: Arm, own: Sequence[Row], summary: Sequence[Row]) -> Iterable[Number]:
    blocks = _sort((row["suite_id"], row["seed"]) for row in own)
    kept = geometric_mean([row["rel_goodput"] for row in summary if row["rel_goodput"]])
    formula = "geometric mean over suites of (U / W) / (U / W of the reference)"
    yield Number(
        f"{arm}: goodput / reference", kept, "1", formula, "goodput-and-ettr", blocks, _need("rel_goodput", arm.variant)
    )
    for metric in ("ettr_ref", "stall_s", "interference_s"):
        unit, formula, section = _METRICS[metric]
        value = mean([row[metric] for row in summary])
        text = f"mean over suites of {formula}"
        yield Number(f"{arm}: {metric}", value, unit, text, section, blocks, _need(metric, arm.variant))


def _list_unit_costs(evidence: Evidence, arm: Arm) -> Iterable[Number]:
    """What one checkpoint and one failure cost."""
    rows = [row for row in evidence.rows if arm.holds(row)] if arm.variant != REFERENCE else []
    for cost, (metric, per) in UNIT_COSTS.items():
        c = measure_unit_cost(rows, arm.variant, cost, evidence.faults)
        if c.overall is not None:
            unit, _, section = _METRICS[metric]
            text = f"mean over suites of {metric} / {per} of a run"
            yield Number(
                f"{arm}: {cost}", c.overall.center, unit, text, section, _list_blocks(c), _need(metric, arm.variant),
                (c.overall.low, c.overall.high),
            )  # fmt: skip


def _list_comparisons(evidence: Evidence) -> Iterable[Number]:
    if evidence.headline is None:
        return
    for metric, kind in _COMPARED:
        c = evidence.compare(*evidence.headline, metric=metric, kind=kind)
        if c.overall is not None:
            yield _build_compared(f"{c.a} {'/' if kind == 'ratio' else '-'} {c.b}: {metric}", c)


def _build_compared(name: str, c: Comparison) -> Number:
    assert c.overall is not None
    unit, formula, _ = _METRICS[c.metric]
    ratio = c.kind == "ratio"
    return Number(
        name,
        c.overall.center,
        "1" if ratio else unit,
        f"mean of {'ln(a / b)' if ratio else 'a - b'} over suites, of {formula}",
        "paired-comparison",
        _list_blocks(c),
        _need(c.metric, c.a, str(c.b)),
        (c.overall.low, c.overall.high),
    )


def _list_claims(evidence: Evidence) -> Iterable[Number]:
    for judged in evidence.claims:
        claim = judged.claim
        yield Number(
            f"claim {claim.name}",
            judged.estimate,
            "1" if claim.expect.startswith(("ratio", "rate")) else _get_unit(claim.metric),
            f"{claim.metric}: {claim.expect}",
            "claims-and-verdicts",
            _list_claim_blocks(evidence, judged),
            _need(claim.metric, *claim.variants),
            (judged.low, judged.high),
        )


def _get_unit(metric: str) -> str:
    if metric in _METRICS:
        return _METRICS[metric][0]
    return "s" if metric.endswith("_s") else "steps" if metric.endswith("_steps") else "1"


def _need(metric: str, *variants: str) -> tuple[str, ...]:
    """The variants whose runs a metric is computed from."""
    return tuple(dict.fromkeys((*variants, REFERENCE) if metric in _OF_REFERENCE else variants))


def _list_claim_blocks(evidence: Evidence, judged: ClaimResult) -> tuple[Block, ...]:
    """The blocks that a claim is judged by: of a rate, every block that has one of its variants."""
    if judged.comparison is not None:
        return _list_blocks(judged.comparison)
    return _sort((row["suite_id"], row["seed"]) for row in evidence.rows if row["variant"] in judged.claim.variants)


def _list_blocks(c: Comparison) -> tuple[Block, ...]:
    return _sort((suite, pair.seed) for pair in c.pairs for suite in (pair.suite_id, *pair.alike))


def _sort(blocks: Iterable[Block]) -> tuple[Block, ...]:
    return tuple(sorted(set(blocks), key=lambda block: (block[0], -1 if block[1] is None else block[1])))
