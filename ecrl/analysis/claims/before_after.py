"""Comparison of two campaigns: the same suite and seed before and after a change."""

from collections import Counter
from collections.abc import Mapping, Sequence

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.run.metrics import Row
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import Kind
from ecrl.errors import EcrlError, unknown_name
from ecrl.records.columns import CLAIM_METRICS

# Metrics that are never 0 in a completed run. Their change is a ratio; that of other metrics is a difference.
RATIOS = frozenset({"goodput_steps_per_s", "ettr", "ettr_ref", "wall_s", "final_loss", "startup_s", "compute_s"})


def kind_of(metric: str) -> Kind:
    """Whether a change of the metric is given as a ratio or as a difference.

    Raises:
        EcrlError: no such metric.
    """
    if metric not in CLAIM_METRICS:
        raise EcrlError("ECRL-102", f"--metric: {unknown_name('metric', metric, CLAIM_METRICS)}")
    return "ratio" if metric in RATIOS else "difference"


def compare_before_after(before: LoadedCampaign, after: LoadedCampaign, metric: str) -> dict[str, Comparison]:
    """Compare `metric` of `after` with that of `before` for every variant that both have, paired by suite and seed.

    Raises:
        EcrlError: there is no such metric, or the two campaigns have no variant or no suite in common.
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
    return {
        variant: compare(
            _rows(before, after, renamed, variant),
            after.prefix,
            before.prefix,
            metric,
            kind,
            _collect_faults(before, after, renamed, variant),
        )
        for variant in variants
    }


def match_suites(before: LoadedCampaign, after: LoadedCampaign) -> dict[str, str]:
    """The suites that both campaigns have: suite id in `after` -> suite id in `before`.

    Suites with equal ids match. The others match by name: the readable part of the id, and the values of `[axes]`. All
    such names in `before` must differ, and a name must occur once in `after`.
    """
    # different settings give different ids, although the suite is meant to be the same
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
    """The rows of one variant in both campaigns; each campaign's prefix takes the place of the variant's name."""
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


def _collect_faults(
    before: LoadedCampaign, after: LoadedCampaign, renamed: Mapping[str, str], variant: str
) -> dict[tuple[str, str, int], str]:
    """The faults of one variant in both campaigns; each campaign's prefix takes the place of the variant's name."""
    ours = {
        (suite_id, before.prefix, seed): f"in {before.prefix}, {reason}"
        for (suite_id, own, seed), reason in before.faults.items()
        if own == variant
    }
    theirs = {
        (renamed[suite_id], after.prefix, seed): f"in {after.prefix}, {reason}"
        for (suite_id, own, seed), reason in after.faults.items()
        if own == variant and suite_id in renamed
    }
    return ours | theirs
