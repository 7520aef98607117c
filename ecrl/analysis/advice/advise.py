"""Advice on the checkpoint interval, from measured costs and an MTBF, with the goodput to expect.

Definitions: docs/metrics.md, "Checkpoint interval".
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ecrl.analysis.advice import interval
from ecrl.analysis.advice.engine_costs import EngineCosts, engine_costs
from ecrl.analysis.campaign.tables import mean
from ecrl.analysis.run.metrics import RunAnalysis
from ecrl.errors import EcrlError

CURVE_DOUBLINGS = 5  # either side of the best interval
CURVE_POINTS_A_DOUBLING = 8
MTBF_FACTOR = 2  # an MTBF is rarely known better: the advice's range is that of half to twice the given one
MIN_SEEDS = 3  # with fewer, the interval of a cost says nothing; the numbers are then the model's, not advice
COSTLY_SHARE = 0.3  # of the MTBF; a failure that costs more is told


@dataclass(frozen=True)
class Advice:
    """The recommended checkpoint interval of one engine on one workload at one MTBF.

    young_s, daly_s, availability_s, floor_s: seconds of compute between checkpoints. mtbf_s: of the job.
    every: the recommended interval, in steps. band: the shortest and the longest interval that are as good, in steps.
    floor_steps: the shortest interval at which checkpoints drain, in steps. ettr, goodput_steps_per_s: expected at
    `every`. overhead: the share of time that checkpoints and the work lost since the last one take at `every`, restarts
    apart. curve: (steps, ETTR). by_cost, by_mtbf: the advised interval, in steps, at the ends of `costs.cost_range_s`,
    and of `mtbf_range_s`. range: at the ends of both. ettr_range: the expected ETTR at the highest cost and at the
    lowest, each at its own interval of `by_cost`.
    """

    costs: EngineCosts
    mtbf_s: float
    restart_s: float
    young_s: float
    daly_s: float
    availability_s: float
    floor_s: float
    floor_steps: int
    every: int
    band: tuple[int, int]
    ettr: float
    goodput_steps_per_s: float
    overhead: float
    curve: tuple[tuple[int, float], ...]
    notes: tuple[str, ...]
    by_cost: tuple[int, int]
    by_mtbf: tuple[int, int]
    range: tuple[int, int]
    ettr_range: tuple[float, float]

    @property
    def has_enough_runs(self) -> bool:
        """Whether the costs rest on enough seeds for an advice."""
        return self.costs.seeds >= MIN_SEEDS

    @property
    def mtbf_range_s(self) -> tuple[float, float]:
        """The MTBFs that `by_mtbf` and `range` cover."""
        return self.mtbf_s / MTBF_FACTOR, self.mtbf_s * MTBF_FACTOR

    def is_outside_band(self, intervals: tuple[int, int]) -> bool:
        """Whether one of the intervals lies outside those that are as good as the advised one."""
        return intervals[0] < self.band[0] or intervals[1] > self.band[1]

    def ettr_at(self, every: int) -> float:
        """Expected ETTR at another interval (steps)."""
        c = self.costs
        return interval.ettr(every * c.step_s, c.cost_s, c.persist_s, self.mtbf_s, self.restart_s)


def advise(
    runs: Iterable[RunAnalysis], mtbf_s: float, *, nodes: int | None = None, restart_s: float | None = None
) -> list[Advice]:
    """Advice for every workload and engine, the best engine of a workload first.

    mtbf_s: of the whole job, or of one node if `nodes` is given. restart_s: replaces the measured detect + restart +
    restore + rewarm.

    Raises:
        EcrlError: no completed run took a checkpoint, or restart_s is not given and a launcher has no run that a
            failure struck.
    """
    found = engine_costs(runs)
    if not found:
        raise EcrlError(
            "ECRL-701",
            "Found no completed run that took a checkpoint, expected at least one with its time ledger.\n"
            "Type `ecrl matrix resume --prefix P` to finish the campaign first.",
        )
    # restart times are averaged per launcher only: one starts a run in tenths of a second, another needs many seconds
    launchers = dict.fromkeys(costs.workload.launcher for costs in found)
    known = {name: mean([c.restart_s for c in found if c.workload.launcher == name]) for name in launchers}
    silent = [name for name, measured_s in known.items() if measured_s is None]
    if silent and restart_s is None:
        which = "in these runs" if len(silent) == len(known) else f"in a run of the launcher {silent[0]}"
        raise EcrlError(
            "ECRL-702",
            f"No failure struck {which}, so the time of a restart is not measured.\n"
            "Give it: --restart 30s (detect + restart + restore + rewarm), or run a matrix with [failures].",
        )
    # independent nodes in series fail at the sum of their rates: M(N) = M(1) / N
    job_s = mtbf_s / (nodes or 1)
    advice = [_advice(costs, job_s, restart_s, known[costs.workload.launcher]) for costs in found]
    order = {costs.workload: place for place, costs in reversed(list(enumerate(found)))}
    return sorted(advice, key=lambda a: (order[a.costs.workload], -a.ettr / a.costs.step_s))


def _advice(costs: EngineCosts, mtbf_s: float, given_s: float | None, elsewhere_s: float | None) -> Advice:
    notes = list(costs.notes)
    restart_s = costs.restart_s if given_s is None else given_s
    if restart_s is None:
        assert elsewhere_s is not None
        restart_s = elsewhere_s
        notes.append("no failure struck this engine: the restart is the mean of the others under its launcher")
    s, p, t = costs.cost_s, costs.persist_s, costs.step_s
    young_s = interval.young_s(s, mtbf_s)
    floor_s = interval.floor_s(costs.persist_alone_s, p, costs.workload.max_inflight, shared_disk=True)
    floor_steps = interval.steps(0.0, floor_s, t)

    def best(cost_s: float, job_s: float) -> int:
        return interval.steps(interval.young_s(cost_s, job_s), floor_s, t)

    every = best(s, mtbf_s)
    ettr = interval.ettr(every * t, s, p, mtbf_s, restart_s)
    lost = (restart_s + every * t / 2 + p) / mtbf_s
    if lost > COSTLY_SHARE:
        notes.append(f"a failure costs {lost:.0%} of the MTBF: restart, work lost, and the latency of checkpoints")
    band = interval.flat_band(every, floor_steps, t, s, p, mtbf_s, restart_s)
    low_s, high_s = costs.cost_range_s
    short_s, long_s = mtbf_s / MTBF_FACTOR, mtbf_s * MTBF_FACTOR
    by_cost = best(low_s, mtbf_s), best(high_s, mtbf_s)
    finest, worst = (
        interval.ettr(k * t, cost_s, p, mtbf_s, restart_s) for k, cost_s in zip(by_cost, (low_s, high_s), strict=True)
    )
    found = Advice(
        costs, mtbf_s, restart_s, young_s, interval.daly_s(s, mtbf_s),
        interval.availability_s(s, mtbf_s, restart_s), floor_s, floor_steps, every,
        band, ettr, ettr / t, 1 - interval.ettr(every * t, s, 0.0, mtbf_s, 0.0), (), tuple(notes),
        by_cost, (best(s, short_s), best(s, long_s)),
        (best(low_s, short_s), best(high_s, long_s)), (worst, finest),
    )  # fmt: skip
    return replace(found, curve=_curve(found))


def _curve(advice: Advice) -> tuple[tuple[int, float], ...]:
    last = CURVE_DOUBLINGS * CURVE_POINTS_A_DOUBLING
    around = {round(advice.every * 2 ** (i / CURVE_POINTS_A_DOUBLING)) for i in range(-last, last + 1)}
    return tuple((every, advice.ettr_at(every)) for every in sorted(around) if every >= 1)
