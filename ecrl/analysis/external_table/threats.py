"""The threats to validity that a table made elsewhere and its manifest can show. All others need records."""

from collections.abc import Iterable, Sequence

from ecrl.analysis.campaign.variants import BLOCKING, OVERLAPPED
from ecrl.analysis.external_table.blocks import SHORTS, Block
from ecrl.analysis.external_table.contradictions import find_contradictions
from ecrl.analysis.external_table.limits import describe_boundaries, has_only_boundary_failures
from ecrl.analysis.run.metrics import REFERENCE, Row
from ecrl.analysis.statistics.compare import Comparison
from ecrl.analysis.statistics.intervals import MIN_PAIRS
from ecrl.analysis.threats.base import TABLE_FLAWS, Threat, format_count, join_some
from ecrl.analysis.threats.detect import CHECKS, ThreatReport
from ecrl.analysis.threats.suites import (
    explain_no_interaction,
    explain_no_outlier,
    explain_one_dataset,
    find_interaction_threats,
    find_nuisance,
    find_outliers,
    list_suites,
)
from ecrl.records.manifest.store import DONE, SKIPPED

_NEEDS_RECORDS = "needs records, which a table does not have"
_NO_MANIFEST = "the status of every suite is needed (--manifest)"
_UNSTATED = "unknown, and blocking until stated"


def detect_table_threats(blocks: Sequence[Block], rows: Sequence[Row], c: Comparison) -> ThreatReport:
    """Check every condition that a table can show. c: the main comparison, by goodput."""
    suites = list_suites(rows)
    found = [
        *find_contradictions(blocks),
        *_find_few_pairs(c),
        *_find_one_seed(blocks),
        *_find_one_sided(blocks),
        *_find_statuses(blocks),
        *_find_incorrect(rows),
        *_find_untested_replay(blocks),
        *_find_single_settings(blocks),
        *_find_no_reference(rows),
        *find_interaction_threats(c, suites),
        *find_outliers(c, rows, lambda *parts: "/".join(parts)),
        *find_nuisance(c, suites),
    ]
    met = {threat.code for threat in found}
    unseen = {code: why for code, why in _explain_unseen(blocks, rows, c).items() if why is not None}
    looked_for = {*TABLE_FLAWS, "n_pairs_lt_6", "missing_blocks", "no_reference", *_explain_unseen(blocks, rows, c)}
    rest = {code: _NEEDS_RECORDS for code in CHECKS if code not in looked_for}
    clear = tuple(sorted(looked_for - met - unseen.keys()))
    return ThreatReport(tuple(found), clear, {code: why for code, why in (unseen | rest).items() if code not in met})


def _explain_unseen(blocks: Sequence[Block], rows: Sequence[Row], c: Comparison) -> dict[str, str | None]:
    """Why a condition that tables may show cannot be seen in this one, by code; None if it can."""
    suites = list_suites(rows)
    silent = [block.name for block in blocks if block.n_seeds is None]
    said = f"{_UNSTATED}: the number of seeds behind {join_some(silent)} (column seed or n_seeds, or --manifest)"
    status = None if all(block.plan and block.plan.status for block in blocks) else _NO_MANIFEST
    boundaries = has_only_boundary_failures(blocks)
    settings = {
        code: f"unknown until stated: {axis} of every row (a column, or --manifest)"
        if any(block.get_setting(axis) is None for block in blocks)
        else None
        for axis, code in _SETTINGS
    }
    return settings | {
        "one_seed": said if silent else None,
        "interrupted": status,
        "reused_runs": status,
        "correctness_failed": None if all(row["correct"] is not None for row in rows if row["variant"] != REFERENCE)
        else "blk_correct and ovl_correct of every row are needed",
        "replay_untested": "steps of failures or the checkpoint interval are unknown" if boundaries is None else None,
        "interaction": explain_no_interaction(c, suites),
        "outlier": explain_no_outlier(c, rows),
        "nuisance_gt_effect": explain_one_dataset(c, suites),
    }  # fmt: skip


_SETTINGS = (("checkpoint_every", "single_interval"), ("max_inflight", "single_inflight"))


def _find_few_pairs(c: Comparison) -> Iterable[Threat]:
    if len(c.pairs) < MIN_PAIRS:
        said = f"{c.a}/{c.b}: {format_count(len(c.pairs), 'pair')}; below {MIN_PAIRS} no exact test reaches p = .05"
        yield Threat("n_pairs_lt_6", True, said)


def _find_one_seed(blocks: Sequence[Block]) -> Iterable[Threat]:
    seeds: dict[str, set[int | None]] = {}
    for block in blocks:
        seeds.setdefault(block.suite_id, set()).add(block.seed)
    single = [block for block in blocks if block.n_seeds == 1 and len(seeds[block.suite_id]) == 1]
    if single:
        which = "every row" if len(single) == len(blocks) else join_some([block.name for block in single])
        yield Threat("one_seed", True, f"one seed stands behind {which}: nothing can be said about another")


def _find_one_sided(blocks: Sequence[Block]) -> Iterable[Threat]:
    gone = {
        variant: [b.name for b in blocks if b.values.get(f"{short}_goodput") is None]
        for short, variant in SHORTS.items()
        if variant != REFERENCE
    }
    alone = {v: [name for name in names if name not in gone[_other(v)]] for v, names in gone.items()}
    lost = {variant: names for variant, names in alone.items() if names}
    why = "it alone is missing, so not at random; " if len(lost) == 1 else ""
    for variant, names in lost.items():
        text = f"no goodput of {variant} in {format_count(len(names), 'row')} ({join_some(names)})"
        yield Threat("missing_blocks", len(lost) == 1, f"{why}{text}")


def _other(variant: str) -> str:
    return OVERLAPPED if variant == BLOCKING else BLOCKING


def _find_statuses(blocks: Sequence[Block]) -> Iterable[Threat]:
    statuses = {block.suite_id: block.plan.status for block in blocks if block.plan and block.plan.status}
    stopped = [f"{suite} ({status})" for suite, status in statuses.items() if status not in DONE]
    if stopped:
        yield Threat("interrupted", True, f"suites that the manifest does not call done: {join_some(stopped)}")
    reused = [suite for suite, status in statuses.items() if status == SKIPPED]
    if reused:
        yield Threat("reused_runs", False, f"suites kept from an earlier session ({len(reused)}): {join_some(reused)}")


def _find_incorrect(rows: Sequence[Row]) -> Iterable[Threat]:
    wrong = sorted({row["suite_id"] for row in rows if row["correct"] is False})
    if wrong:
        yield Threat("correctness_failed", True, f"the table calls these incorrect ({len(wrong)}): {join_some(wrong)}")


def _find_untested_replay(blocks: Sequence[Block]) -> Iterable[Threat]:
    if (why := describe_boundaries(blocks)) is not None:
        yield Threat("replay_untested", False, why)


def _find_single_settings(blocks: Sequence[Block]) -> Iterable[Threat]:
    for axis, code in _SETTINGS:
        values = {block.get_setting(axis) for block in blocks}
        if len(values) == 1 and None not in values:
            yield Threat(code, False, f"{axis} is {next(iter(values))} everywhere")


def _find_no_reference(rows: Sequence[Row]) -> Iterable[Threat]:
    if not any(row["variant"] == REFERENCE for row in rows):
        yield Threat("no_reference", False, "the table has no goodput of a reference")
