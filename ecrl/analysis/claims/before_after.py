"""Two campaigns side by side: the same suite and seed before and after a change."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import BlockKey, Comparison, Kind, compare
from ecrl.errors import EcrlError, unknown_name
from ecrl.records.columns import CLAIM_METRICS

# Metrics that are never 0 in a completed run, so that their change is a ratio.
RATIOS = frozenset({"goodput_steps_per_s", "ettr", "ettr_ref", "wall_s", "final_loss", "startup_s", "compute_s"})


def kind_of(metric: str) -> Kind:
    """How a change of the metric is told.

    Raises:
        EcrlError: no such metric.
    """
    if metric not in CLAIM_METRICS:
        raise EcrlError("ECRL-102", f"--metric: {unknown_name('metric', metric, CLAIM_METRICS)}")
    return "ratio" if metric in RATIOS else "difference"


def compare_before_after(before: LoadedCampaign, after: LoadedCampaign, metric: str) -> dict[str, Comparison]:
    """`metric` of `after` against `before` for every variant that both have, paired by suite and seed.

    Raises:
        EcrlError: no such metric, or the two share no variant or suite.
    """
    kind = kind_of(metric)
    renamed = match_suites(before, after)
    variants = [v for v in before.matrix.matrix.variants if v in after.matrix.matrix.variants]
    if not variants or not renamed:
        what = "suite" if variants else "variant"
        raise EcrlError(
            "ECRL-704",
            f"{before.prefix} and {after.prefix} have no {what} in common: nothing can be compared.\n"
            "A suite is the same where data set, model, failures, interval, checkpoints in flight and [axes] are.",
        )
    dropped = _collect_dropped(before, after, renamed)
    return {
        variant: compare(_rows(before, after, renamed, variant), after.prefix, before.prefix, metric, kind, dropped)
        for variant in variants
    }


def match_suites(before: LoadedCampaign, after: LoadedCampaign) -> dict[str, str]:
    """Suites of `after` that `before` has: id there -> id here. Where settings differ the ids do, and a suite is
    known by the readable part of its id and its values of `[axes]`, as long as it is the only one of that name on both
    sides."""
    ours, theirs = before.axes_texts, after.axes_texts
    found = {suite_id: suite_id for suite_id in ours.keys() & theirs.keys()}
    names = {_get_name(suite_id, axes): suite_id for suite_id, axes in ours.items() if suite_id not in found}
    unique = len(names) == len(ours) - len(found)
    rest = [(suite_id, _get_name(suite_id, axes)) for suite_id, axes in theirs.items() if suite_id not in found]
    taken = Counter(name for _, name in rest)
    return found | {i: names[name] for i, name in rest if unique and name in names and taken[name] == 1}


def _get_name(suite_id: str, axes: str) -> tuple[str, str]:
    return suite_id.rpartition("-")[0], axes


def _rows(before: LoadedCampaign, after: LoadedCampaign, renamed: Mapping[str, str], variant: str) -> Sequence[Row]:
    """Rows of one variant of both campaigns, each called a variant of its own."""
    shared = set(renamed.values())
    ours = [
        run.row | {"variant": before.prefix}
        for run in before.runs
        if run.row["variant"] == variant and run.row["suite_id"] in shared
    ]
    theirs = [
        run.row | {"variant": after.prefix, "suite_id": renamed[run.row["suite_id"]]}
        for run in after.runs
        if run.row["variant"] == variant and run.row["suite_id"] in renamed
    ]
    return [*ours, *theirs]


def _collect_dropped(before: LoadedCampaign, after: LoadedCampaign, renamed: Mapping[str, str]) -> dict[BlockKey, str]:
    found = {key: f"in {before.prefix}, {reason}" for key, reason in before.dropped.items()}
    for (suite_id, seed), reason in after.dropped.items():
        if suite_id in renamed:
            found[renamed[suite_id], seed] = f"in {after.prefix}, {reason}"
    return found
