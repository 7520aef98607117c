"""The goodput that simple models predict from measured costs, compared with the measured goodput.

Definitions: docs/metrics.md, "Predicted goodput".
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ecrl.analysis.advice.engine_costs import EngineCosts, engine_costs, get_fixed_s, workload
from ecrl.analysis.advice.interval import ettr
from ecrl.analysis.campaign.tables import geometric_mean, mean
from ecrl.analysis.run.metrics import REFERENCE, RunAnalysis
from ecrl.analysis.statistics.compare import BlockKey

BISECTIONS = 60  # halvings of the MTBF that is looked for: to the last bits of a double


@dataclass(frozen=True)
class Prediction:
    """Predicted and measured goodput of one suite with one variant, in steps/s.

    planned: with each failure at the step where it struck. anywhere: by the complete model of `interval.ettr`, with as
    many failures as these runs had. pccheck: by PCcheck's published model.
    """

    suite_id: str
    variant: str
    runs: int
    planned: float
    anywhere: float
    pccheck: float
    measured: float

    @property
    def error(self) -> float:
        """planned / measured - 1."""
        return self.planned / self.measured - 1


def predictions(runs: Sequence[RunAnalysis], dropped: Mapping[BlockKey, str]) -> list[Prediction]:
    """The predictions of every suite and variant with completed runs.

    The costs of checkpoints and restarts are means over the workload's runs. The step time, startup and shutdown are
    those of the suite's own reference runs if it has any. Dropped blocks are left out.
    """
    usable = [run for run in runs if (run.row["suite_id"], run.row["seed"]) not in dropped]
    costs = {(c.workload, c.variant): c for c in engine_costs(usable)}
    groups: dict[tuple[str, str], list[RunAnalysis]] = {}
    for run in usable:
        if (workload(run), run.row["variant"]) in costs and run.row["goodput_steps_per_s"]:
            groups.setdefault((run.row["suite_id"], run.row["variant"]), []).append(run)
    references: dict[str, list[RunAnalysis]] = {}
    for run in usable:
        if run.row["variant"] == REFERENCE and run.row["outcome"] == "completed" and run.facts["tref_s"]:
            references.setdefault(run.row["suite_id"], []).append(run)
    return [
        _prediction(suite, variant, own, _adapt_costs(costs[workload(own[0]), variant], references.get(suite, [])))
        for (suite, variant), own in groups.items()
    ]


def _adapt_costs(costs: EngineCosts, references: Sequence[RunAnalysis]) -> EngineCosts:
    """The costs with the mean step time, startup and shutdown of one suite's reference runs, if there are any."""
    if not references:
        return costs
    step_s = mean([run.facts["tref_s"] for run in references])
    fixed_s = mean([get_fixed_s(run) for run in references])
    assert step_s is not None
    assert fixed_s is not None
    return replace(costs, step_s=step_s, fixed_s=fixed_s)


def compute_mean_errors(found: Sequence[Prediction]) -> dict[str, float]:
    """Mean of planned / measured - 1, with its sign, by variant."""
    by_variant: dict[str, list[float]] = {}
    for one in found:
        by_variant.setdefault(one.variant, []).append(one.error)
    return {variant: statistics.fmean(errors) for variant, errors in by_variant.items()}


def median_error(found: Sequence[Prediction]) -> float | None:
    """Median of |planned / measured - 1|."""
    return statistics.median(abs(one.error) for one in found) if found else None


def _prediction(suite_id: str, variant: str, own: Sequence[RunAnalysis], costs: EngineCosts) -> Prediction:
    """W = startup and shutdown + U t + (U/k) s + sum over failures of (R + lost work)."""
    row = own[0].row
    every, useful, t = row["checkpoint_every"], row["steps"], costs.step_s
    struck = [[cost.at for cost in run.failures] for run in own]
    per_run = sum(map(len, struck)) / len(struck)
    restart_s = costs.restart_s or 0.0
    base_s = costs.fixed_s + useful * t + (useful // every) * costs.cost_s + per_run * restart_s
    planned_s = sum(compute_lost_s(at, every, costs) for run in struck for at in run) / len(struck)
    wall_s = mean([run.row["wall_s"] for run in own])
    assert wall_s is not None
    anywhere_s = costs.fixed_s + compute_working_s(useful * t, every * t, per_run, costs)
    return Prediction(
        suite_id,
        variant,
        len(own),
        useful / (base_s + planned_s),
        useful / anywhere_s,
        _pccheck(wall_s, per_run, every, costs),
        geometric_mean([run.row["goodput_steps_per_s"] for run in own]) or math.nan,
    )


def compute_working_s(useful_s: float, tau: float, failures: float, costs: EngineCosts) -> float:
    """Seconds in which `useful_s` of work are done by the complete model, at the MTBF that gives so many failures."""

    def compute_at(mtbf_s: float) -> float:
        share = ettr(tau, costs.cost_s, costs.persist_s, mtbf_s, costs.restart_s or 0.0)
        return useful_s / share if share else math.inf

    low, high = 0.0, useful_s / failures if failures else math.inf
    if math.isinf(high):
        return useful_s * (1 + costs.cost_s / tau)
    while compute_at(high) > failures * high:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if compute_at(middle) > failures * middle else (low, middle)
    return failures * high


def compute_lost_s(at: int | None, every: int, costs: EngineCosts) -> float:
    """Seconds of work that a failure right after step `at` destroys.

    The lost work is the steps since the newest boundary whose checkpoint was durable by then. With `at` None (unknown
    step) it is the mean over the interval: k t/2 + p.
    """
    if at is None:
        return every * costs.step_s / 2 + costs.persist_s
    since = at % every
    in_flight = max(0, math.ceil((costs.persist_s - since * costs.step_s) / (every * costs.step_s)))
    return min(at, since + in_flight * every) * costs.step_s


def _pccheck(wall_s: float, failures: float, every: int, costs: EngineCosts) -> float:
    """Goodput by the model of PCcheck (ASPLOS'25, run_goodput_model.py), in steps/s.

    The model is ((T - n t_redo)/t_iter)/T with t_redo = load + k t/2 + t min(Tw/t, k N)/2; load = R, Tw = p,
    N = checkpoints in flight.
    """
    # the model has no startup and shutdown, so they are subtracted from T in the numerator
    t, flying = costs.step_s, costs.workload.max_inflight
    redo_s = (costs.restart_s or 0.0) + every * t / 2 + t * min(costs.persist_s / t, every * flying) / 2
    step_s = t + costs.cost_s / every
    return max(0.0, wall_s - costs.fixed_s - failures * redo_s) / step_s / wall_s
