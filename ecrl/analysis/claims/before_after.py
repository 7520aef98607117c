"""Comparison of two campaigns: the same suite and seed before and after a change."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ecrl.analysis.campaign.load import LoadedCampaign
from ecrl.analysis.run.metrics import REFERENCE, REFERENCE_METRICS, Row, get_run_key
from ecrl.analysis.statistics.compare import Comparison, compare
from ecrl.analysis.statistics.intervals import Kind
from ecrl.analysis.statistics.pairwise import adjust_holm
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


@dataclass(frozen=True)
class Change:
    """The change of one variant between two campaigns. own: after against before, and with it what the machine did.

    net: the same less the change of the reference in the same block; None of the reference itself, and where one of the
    two has none. p: of "net is no change", Holm-adjusted over the variants.
    """

    own: Comparison
    net: Comparison | None = None
    p: float | None = None


def compare_before_after(before: LoadedCampaign, after: LoadedCampaign, metric: str) -> dict[str, Change]:
    """Compare `metric` of `after` with that of `before` for every variant that both have, paired by suite and seed.

    Raises:
        EcrlError: there is no such metric, or the two campaigns have no block in common.
    """
    kind = kind_of(metric)
    renamed = match_suites(before, after)
    variants = [v for v in before.matrix.matrix.variants if v in after.matrix.matrix.variants]
    if not variants or not renamed:
        raise _explain_nothing_in_common(before, after, variants)
    sides = _Sides(before, after, renamed)
    own = {
        v: compare(sides.list_rows(v), after.prefix, before.prefix, metric, kind, sides.list_faults(v))
        for v in variants
    }
    if not any(c.pairs for c in own.values()):
        reasons = dict.fromkeys(reason for c in own.values() for _, _, reason in c.missing)
        raise _refuse(before, after, "block", f"Of the blocks that they plan: {'; '.join(list(reasons)[:3])}.")
    engines = [v for v in variants if v != REFERENCE] if REFERENCE in variants else []
    net = {v: _compare_net(sides, v, metric, kind) for v in engines}
    adjusted = adjust_holm(c.p_value for c in net.values())
    return {v: Change(c) for v, c in own.items()} | {
        v: Change(own[v], c, p) for (v, c), p in zip(net.items(), adjusted, strict=True)
    }


def _compare_net(sides: "_Sides", variant: str, metric: str, kind: Kind) -> Comparison:
    """The difference in differences; of a ratio, the ratio of ratios."""
    yardsticks = {get_run_key(row): row[metric] for row in sides.list_rows(REFERENCE)}
    rows = [
        row | {metric: _relate(row[metric], yardsticks.get(get_run_key(row)), metric, kind)}
        for row in sides.list_rows(variant)
    ]
    faults = sides.list_faults(REFERENCE) | sides.list_faults(variant)
    return compare(rows, sides.after.prefix, sides.before.prefix, metric, kind, faults)


def _relate(value: float | None, yardstick: float | None, metric: str, kind: Kind) -> float | None:
    """A value relative to that of the reference in the same session; None if it is not known."""
    if yardstick is None and metric in REFERENCE_METRICS:
        return value  # a distance from the reference, which the reference itself has none of
    if value is None or yardstick is None or (kind == "ratio" and yardstick <= 0):
        return None
    return value / yardstick if kind == "ratio" else value - yardstick


def _explain_nothing_in_common(before: LoadedCampaign, after: LoadedCampaign, variants: Sequence[str]) -> EcrlError:
    if not variants:
        told = [f"{one.prefix} has {', '.join(one.matrix.matrix.variants)}" for one in (before, after)]
        return _refuse(before, after, "variant", f"{'; '.join(told)}.")
    suites = [f"{one.prefix} has {', '.join(sorted(one.axes_texts)[:3]) or 'none'}" for one in (before, after)]
    same = "A suite is the same where data set, model, failures, interval, checkpoints in flight and [axes] are."
    return _refuse(before, after, "suite", f"{'; '.join(suites)}.\n{same}")


def _refuse(before: LoadedCampaign, after: LoadedCampaign, what: str, why: str) -> EcrlError:
    text = f"{before.prefix} and {after.prefix} have no {what} in common: nothing can be compared."
    return EcrlError("ECRL-704", f"{text}\n{why}\n`ecrl matrix status --prefix PREFIX` shows what each has.")


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


@dataclass(frozen=True)
class _Sides:
    """Two campaigns as one: each prefix takes the place of the variant's name. renamed: see `match_suites`."""

    before: LoadedCampaign
    after: LoadedCampaign
    renamed: Mapping[str, str]

    def list_rows(self, variant: str) -> list[Row]:
        """The rows of one variant in both campaigns."""
        return [
            run.row | {"variant": one.prefix, "suite_id": ids[run.row["suite_id"]]}
            for one, ids in self._list()
            for run in one.runs
            if run.row["variant"] == variant and run.row["suite_id"] in ids
        ]

    def list_faults(self, variant: str) -> dict[tuple[str, str, int], str]:
        """The faults of one variant in both campaigns, and the blocks that one of them does not have."""
        rows = self.list_rows(variant)
        blocks = dict.fromkeys((row["suite_id"], row["seed"]) for row in rows)
        planned = {get_run_key(row) for row in rows}
        faults = {
            (suite, one.prefix, seed): f"{one.prefix} has no seed {seed}"
            for one, _ in self._list()
            for suite, seed in blocks
            if (suite, one.prefix, seed) not in planned
        }
        for one, ids in self._list():
            for (suite, own, seed), reason in one.faults.items():
                if own == variant and suite in ids:
                    faults[ids[suite], one.prefix, seed] = f"in {one.prefix}, {reason}"
        return faults

    def _list(self) -> Iterator[tuple[LoadedCampaign, Mapping[str, str]]]:
        """Each campaign with the common names of the suites that both have."""
        yield self.before, {suite_id: suite_id for suite_id in self.renamed.values()}
        yield self.after, self.renamed
