"""The measured inputs of the interval theory: the cost of a checkpoint and of a failure, per engine and workload."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ecrl.analysis.campaign.axes import format_axis
from ecrl.analysis.campaign.tables import mean
from ecrl.analysis.run.metrics import DEFAULT_LAUNCHER, REFERENCE, RunAnalysis, get_own_axes
from ecrl.analysis.statistics.intervals import UNBOUNDED, Bounds
from ecrl.analysis.statistics.unit_costs import SLOWER_STEPS, measure_unit_cost

_LEAST_SAID_S = 0.01
BACKPRESSURE_SHARE = 0.01  # of the stall; a smaller share is the time that asking for a free slot takes
RESTART_PARTS = ("detect", "restart", "restore", "rewarm")  # of what a failure costs, those that no interval changes


class Workload(NamedTuple):
    """The settings that decide how long a step, a checkpoint and a start take.

    axes: (column, value) of the axes of `[axes]` that have a column of their own.
    """

    dataset: str
    model: str
    nproc: int
    max_inflight: int
    launcher: str
    axes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """'cifar10, resnet18, 2 ranks, 4 in flight', then the launcher if it is not the default, then the axes."""
        axes = [("dataset", self.dataset), ("model", self.model), ("nproc", self.nproc)]
        axes += [("max_inflight", self.max_inflight)]
        axes += [] if self.launcher == DEFAULT_LAUNCHER else [("launcher", self.launcher)]
        return ", ".join(format_axis(column, value) for column, value in (*axes, *self.axes))


@dataclass(frozen=True)
class EngineCosts:
    """Mean costs of one variant on one workload, over its completed runs. p and R are the symbols of `interval`.

    stall_s, interference_s: per checkpoint. stall_s is without backpressure. interference_s, with its 95 % interval
    interference_ci_s, is that of the answer's table; None without a reference.
    persist_s: p. persist_alone_s: the median latency of checkpoints that no other overlapped; the shortest latency if
    all overlapped. restart_s: R; None if no failure struck. fixed_s: see `get_fixed_s`.
    intervals: the checkpoint intervals of the runs, in steps. seeds: the number of seeds of the runs.
    """

    workload: Workload
    variant: str
    engine: str
    runs: int
    seeds: int
    checkpoints: int
    failures: int
    step_s: float
    stall_s: float
    interference_s: float | None
    interference_ci_s: Bounds
    persist_s: float
    persist_alone_s: float
    restart_s: float | None
    fixed_s: float
    intervals: tuple[int, ...]
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The variant's name, followed by the engine's if that differs."""
        return self.variant if self.variant == self.engine else f"{self.variant} ({self.engine})"

    @property
    def cost_s(self) -> float:
        """s: the stall, plus the mean interference; interference below 0 counts as 0."""
        # An interval that includes 0 is no evidence that the interference is 0. No engine is credited for steps that
        # were faster than the reference's: no interval follows from checkpoints that cost less than nothing.
        return self.stall_s + max(0.0, self.interference_s or 0.0)

    @property
    def cost_range_s(self) -> tuple[float, float]:
        """s with the ends of the interference's interval, each at least 0; s alone if there is no interval."""
        low, high = (self.cost_s if end is None else self.stall_s + max(0.0, end) for end in self.interference_ci_s)
        return min(low, self.cost_s), max(high, self.cost_s)


def workload(run: RunAnalysis) -> Workload:
    """The workload of a run."""
    row = run.row
    axes = tuple(get_own_axes(row).items())
    return Workload(row["dataset"], row["model"], row["nproc"], row["max_inflight"], row["launcher"], axes)


def get_fixed_s(run: RunAnalysis) -> float:
    """Startup, shutdown and the warm-up of the very first step: what a run takes however long it is."""
    return float(run.row["startup_s"] + run.row["shutdown_s"]) + (run.first_warm_up_s or 0.0)


def engine_costs(runs: Iterable[RunAnalysis]) -> list[EngineCosts]:
    """The costs of every workload and variant with a completed run that took a checkpoint, in order of appearance.

    Runs with a failed gate are left out.
    """
    groups: dict[Workload, dict[str, list[RunAnalysis]]] = {}
    for run in runs:
        if run.row["outcome"] == "completed" and run.row["correct"] is not False and run.checkpoints is not None:
            groups.setdefault(workload(run), {}).setdefault(run.row["variant"], []).append(run)
    return [
        _costs(place, variant, own, variants.get(REFERENCE, []))
        for place, variants in groups.items()
        for variant, own in variants.items()
        if variant != REFERENCE and any(run.checkpoints and run.checkpoints.visits for run in own)
    ]


def _costs(place: Workload, variant: str, own: list[RunAnalysis], references: list[RunAnalysis]) -> EngineCosts:
    notes = []
    own = [run for run in own if run.checkpoints is not None and run.checkpoints.visits]
    found = [run.checkpoints for run in own if run.checkpoints is not None]
    visits = sum(costs.visits for costs in found)
    latencies = [latency for costs in found for latency in costs.latencies_s]
    alone = [latency for costs in found for latency in costs.alone_s]
    if not latencies:
        notes.append("no checkpoint was seen to become durable: its latency counts as 0")
    elif not alone:
        notes.append("every checkpoint overlapped another: the floor is the shortest latency seen")
    slow = measure_unit_cost([run.row for run in own], variant, SLOWER_STEPS, {})
    known = slow.overall if len(slow.pairs) == len(own) else None
    interference, bounds = (None, UNBOUNDED) if known is None else (known.center, (known.low, known.high))
    if interference is None:
        notes.append("interference is unknown without a reference run: the cost is the stall alone")
    elif bounds[0] is None or bounds[1] is None:
        notes.append("one seed gives no interval of the interference: the range is that of the MTBF alone")
    elif bounds[0] <= 0:
        known_s = f"95 % interval {bounds[0]:.3g} to {bounds[1]:.3g} s a checkpoint, {len(own)} runs"
        text = f"interference not told from 0 ({known_s}): both ends are charged, 0 instead of a negative one"
        if bounds[1] < 0:
            text = f"steps were faster than the reference's ({known_s}): the cost is the stall alone"
        notes.append(text)
    waits = sum(costs.backpressure_s for costs in found)
    if waits > max(BACKPRESSURE_SHARE * sum(costs.stall_s for costs in found), _LEAST_SAID_S):
        notes.append(f"{waits:.2f} s of waiting for a free slot are left out: above the floor nobody waits")
    steps = _step_s(references or own)
    if not references:
        notes.append("the step time is the engine's own: there is no reference run")
    failed = [sum(cost.seconds[part] for part in RESTART_PARTS) for run in own for cost in run.failures]
    return EngineCosts(
        place,
        variant,
        own[0].facts["engine"],
        len(own),
        len({run.row["seed"] for run in own}),
        visits,
        len(failed),
        steps,
        sum(costs.stall_s for costs in found) / visits,
        interference,
        bounds,
        mean(latencies) or 0.0,
        statistics.median(alone) if alone else min(latencies, default=0.0),
        mean(failed),
        mean([get_fixed_s(run) for run in references or own]) or 0.0,
        tuple(sorted({run.row["checkpoint_every"] for run in own})),
        tuple(notes),
    )


def _step_s(runs: Sequence[RunAnalysis]) -> float:
    known = mean([run.facts["tref_s"] for run in runs])
    assert known, "a completed run with a ledger has steps"
    return known
