"""The metrics of one training run: pure functions of its records and of its block's reference.

Definitions: docs/metrics.md, from "Goodput and ETTR" on.
An unknown value is None. Names of seconds end in `_s`; goodput is in steps per second.
"""

import math
from collections import Counter
from typing import Any, ClassVar

from ecrl.analysis.frames.columns import DTypes
from ecrl.analysis.frames.kind import MetricsKind
from ecrl.analysis.frames.runs import DTYPES
from ecrl.analysis.run.buckets import WASTE_BUCKETS, StepTimes, build_step_times, failure_costs
from ecrl.analysis.run.checkpoint_costs import checkpoint_costs, count_vanished
from ecrl.analysis.run.divergence import divergence
from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.metrics import (
    FAIL,
    NOT_APPLICABLE,
    NOT_MEASURED,
    PASS,
    REFERENCE,
    Row,
    RunAnalysis,
    build_facts,
    identity,
)
from ecrl.analysis.run.restarts import restarts
from ecrl.analysis.run.step_history import StepHistory, build_step_history
from ecrl.analysis.run.timeline import Timeline, timeline
from ecrl.records import correctness as run_gates
from ecrl.records import failure_checks
from ecrl.records.columns import LEDGER_BUCKETS
from ecrl.records.reader import RunRecord
from ecrl.records.result import Gate

# How the evidence of a gate begins that is no part of `correct`, and what the gate then is.
_NO_PART = {"does not apply": NOT_APPLICABLE, "not measured": NOT_MEASURED, "not offered": NOT_MEASURED}
_NO_REFERENCE = "the block's reference run is missing or failed"


def analyse(record: RunRecord, reference: RunAnalysis | None, *, has_reference: bool) -> RunAnalysis:
    """Compute all metrics of a run.

    reference: the analysis of the block's reference run; None if it is missing or failed, or if this run is it.
    has_reference: whether the block should have a reference. If not, gates that need one do not apply.
    """
    record = drop_invalid_events(record)
    line, warnings = timeline(record)
    executions = build_step_history(record)
    times = StepTimes((), None) if line is None else build_step_times(line)
    warnings = [*record.warnings, *warnings, *_count_warnings(record, executions, line)]
    gates = _gates(record, executions, reference, has_reference)
    row = identity(record.spec)
    row["outcome"] = "unfinished" if record.result is None else record.result["outcome"]
    row |= _counts(record, executions)
    row |= {code.lower(): verdict(gate) for code, gate in gates.items()} | {"correct": _correct(gates)}
    if line is not None:
        row |= _time(line, row, line.ledger_s())
    tref_s = times.steady_s if reference is None else reference.facts["tref_s"]
    row |= _rewarm(row, times, tref_s)
    if row["outcome"] == "completed":
        row |= _results(record, executions, line, times, reference)
    nproc, steps = row["nproc"], row["steps"]
    return RunAnalysis(
        row,
        gates,
        tuple(warnings),
        line,
        executions,
        tuple(executions.mean_loss(step, nproc) for step in range(1, steps + 1)),
        failure_costs(record, executions, line, times.first, tref_s or 0.0),
        () if line is None else restarts(record, line),
        None if line is None else checkpoint_costs(record, line),
        _facts(record, line, times),
    )


def verdict(gate: Gate) -> str | None:
    """'pass', 'fail', 'not_applicable', 'not_measured', or None if the gate applies but could not be decided."""
    if gate["passed"] is None:
        found = (word for start, word in _NO_PART.items() if gate["evidence"].startswith(start))
        return next(found, None)
    return PASS if gate["passed"] else FAIL


def _correct(gates: dict[str, Gate]) -> bool | None:
    """Whether all applicable gates passed: False if one failed, else None if one is undecided."""
    verdicts = [verdict(gate) for gate in gates.values()]
    if FAIL in verdicts:
        return False
    return None if None in verdicts else True


def _gates(record: RunRecord, own: StepHistory, reference: RunAnalysis | None, has_reference: bool) -> dict[str, Gate]:
    exited = [e.get("code") for e in record.launcher if e["e"] == "exit"]
    exit_code = record.result["exit_code"] if record.result else (exited[-1] if exited else None)
    gates = run_gates.compute_gates(record, exit_code)
    gates["C4"] = _same_data(record, own, reference, has_reference)
    gates["C6"] = _same_digest(record, reference, has_reference)
    loaded = any(event["step"] > 0 for _, _, event in record.get_events("restored"))
    # Without digests from the engine C2 is undecided. It does not apply if nothing was loaded, or if C6 proves by the
    # final state that the loaded state was right.
    if gates["C2"]["passed"] is None and (not loaded or gates["C6"]["passed"]):
        proof = ", and C6 shows the final state" if loaded else ""
        gates["C2"] = Gate(passed=None, evidence=f"does not apply: {gates['C2']['evidence']}{proof}")
    return dict(sorted(gates.items()))


def _not_comparable(record: RunRecord, reference: RunAnalysis | None, has_reference: bool) -> Gate | None:
    if record.spec["variant"] == REFERENCE:
        return Gate(passed=None, evidence="does not apply: this is the reference")
    if not has_reference:
        return Gate(passed=None, evidence="does not apply: this campaign has no reference variant")
    if reference is None or reference.lineage is None:
        return Gate(passed=None, evidence=_NO_REFERENCE)
    return None


def _same_data(record: RunRecord, own: StepHistory, reference: RunAnalysis | None, has_reference: bool) -> Gate:
    """C4: in its last execution of every step, each rank used the reference's samples (CheckFreq's invariant)."""
    if (gate := _not_comparable(record, reference, has_reference)) is not None:
        return gate
    if record.spec.get("job") is not None:
        return Gate(passed=None, evidence="not measured: ecrl does not see the batches of a script")
    assert reference is not None
    assert reference.lineage is not None
    train = record.spec["train"]
    wanted = [(rank, step) for rank in range(train["nproc"]) for step in range(1, train["steps"] + 1)]
    theirs = reference.lineage.ids
    unknown = [key for key in wanted if key not in own.ids or key not in theirs]
    wrong = [key for key in wanted if key in own.ids and key in theirs and own.ids[key] != theirs[key]]
    if wrong:
        rank, step = min(wrong, key=lambda key: (key[1], key[0]))
        return Gate(passed=False, evidence=f"{len(wrong)} batches differ, first at step {step} on rank {rank}")
    if unknown:
        return Gate(passed=None, evidence=f"{len(unknown)} of {len(wanted)} batches were not recorded")
    return Gate(passed=True, evidence=f"{len(wanted)} batches are the reference's")


def _same_digest(record: RunRecord, reference: RunAnalysis | None, has_reference: bool) -> Gate:
    """C6: in deterministic mode, the digest of the final state equals the reference's."""
    if not record.spec["train"]["deterministic"]:
        return Gate(passed=None, evidence="does not apply: train.deterministic is false")
    if (gate := _not_comparable(record, reference, has_reference)) is not None:
        return gate
    assert reference is not None
    own, theirs = _final_digest(record), reference.facts.get("final_digest")
    if own is None or theirs is None:
        return Gate(passed=None, evidence="a final digest of rank 0 was not recorded")
    same = "equals" if own == theirs else "differs from"
    gate = Gate(passed=own == theirs, evidence=f"final state {own[:12]} {same} the reference's {theirs[:12]}")
    return gate if own == theirs or record.spec.get("job") is None else _excuse_script(record, reference, gate)


def _excuse_script(record: RunRecord, reference: RunAnalysis, failed: Gate) -> Gate:
    """The gate C6 of a script whose final state differs: only if equal runs of it are equal is that a failure."""
    if run_gates.count_restarts(record) and any(
        event.get("rebuckets") for _, _, event in record.get_events("attached")
    ):
        why = "a new DistributedDataParallel adds the gradients of 3 or more ranks in another order"
        return Gate(passed=None, evidence=f"not offered: DDP buckets: {why}; find_unused_parameters=True keeps it")
    # The second reference run is itself compared before its digest is among the facts of the first.
    repeat = reference.facts.get("repeat_digest", _final_digest(record))
    if repeat is None:
        return Gate(passed=None, evidence=f"{failed['evidence']}; no second reference run (run.aa) shows if it may")
    equal_runs = repeat == reference.facts["final_digest"]
    return failed if equal_runs else Gate(passed=None, evidence="does not apply: two equal runs differ")


def _final_digest(record: RunRecord) -> str | None:
    found = [e["digest"] for _, rank, e in record.get_events("final") if rank == 0]
    return str(found[-1]) if found else None


def _counts(record: RunRecord, own: StepHistory) -> Row:
    def checkpoints(kind: str) -> int:
        return len({(attempt, event["s"]) for attempt, _, event in record.get_events(kind)})

    interval = [r.lost_interval_steps for r in own.rollbacks]
    in_flight = [r.lost_in_flight_steps for r in own.rollbacks]
    return {
        "restarts": run_gates.count_restarts(record),
        "failures_fired": len(run_gates.list_fired(record)),
        "executed_steps": own.executed_steps,
        "replayed_steps": own.replayed_steps,
        "lost_interval_steps": _sum_known(interval),
        "lost_in_flight_steps": _sum_known(in_flight),
        "checkpoints_requested": checkpoints("save"),
        "checkpoints_committed": checkpoints("committed"),
        "persist_failures": checkpoints("persist_failed"),
        "checkpoints_vanished": count_vanished(record),
        "restores": len({attempt for attempt, _, event in record.get_events("restored") if event["step"] > 0}),
        "replay_agreement": own.replay_agreement,
    }


def _sum_known(values: list[int | None]) -> int | None:
    return None if None in values else sum(v for v in values if v is not None)


def _time(line: Timeline, row: Row, ledger: dict[str, float]) -> Row:
    """Wall-clock, ledger, and the columns that follow from them alone. They are valid for failed runs, too."""
    columns: Row = {f"{bucket}_s": ledger[bucket] for bucket in LEDGER_BUCKETS}
    if not line.detect_known:
        columns["detect_s"] = None  # restart_s includes it
    return columns | {
        "wall_s": line.wall_s,
        "stall_s": ledger["snapshot_stall"] + ledger["persist_stall"],
        "residual_s": line.residual_s(),
        "wasted_s": sum(ledger[bucket] for bucket in WASTE_BUCKETS) if row["restarts"] else 0.0,
    }


def _rewarm(row: Row, times: StepTimes, tref_s: float | None) -> Row:
    """The warm-up of the first step of every attempt, and what failures waste with it."""
    if tref_s is None or row["wasted_s"] is None:
        return {}
    # a replayed first step is wasted with the bucket `replay`, and every run warms up once
    more_s = sum(one.seconds - tref_s for one in times.first_computed if one.attempt)
    return {
        "rewarm_s": sum(one.seconds - tref_s for one in times.first),
        "wasted_s": row["wasted_s"] + more_s,
    }


def _results(
    record: RunRecord, own: StepHistory, line: Timeline | None, times: StepTimes, reference: RunAnalysis | None
) -> Row:
    """The columns of completed runs only: goodput, ETTR, divergence."""
    steps, nproc = record.spec["train"]["steps"], record.spec["train"]["nproc"]
    is_reference = record.spec["variant"] == REFERENCE
    loss = own.mean_loss(steps, nproc)
    columns: Row = {"final_loss": loss if loss is not None and math.isfinite(loss) else None}
    if reference is not None and reference.lineage is not None:
        d = divergence(own, reference.lineage, steps, nproc)
        columns |= {"d_end": d.d_end, "d_max": d.d_max, "d_rms": d.d_rms}
        columns["first_divergent_step"] = d.first_divergent_step
    if line is None:
        return columns
    useful, ledger = own.unique_steps, line.ledger_s()
    compute_s, steady_s = ledger["compute"], line.wall_s - ledger["startup"] - ledger["shutdown"]
    columns |= {
        "goodput_steps_per_s": useful / line.wall_s,
        "goodput_samples_per_s": useful * _count_samples(record.spec["train"]) / line.wall_s,
        "goodput_steady_steps_per_s": useful / steady_s if steady_s > 0 else None,  # for short runs; never the headline
        "ettr": compute_s / line.wall_s,
    }
    tref_s = times.steady_s if is_reference else (reference.facts.get("tref_s") if reference else None)
    if tref_s is not None:
        first = times.first_computed
        steady = useful - len({one.step for one in first})
        slower_s = compute_s - sum(one.seconds for one in first) - steady * tref_s
        columns["ettr_ref"] = useful * tref_s / line.wall_s
        columns["interference_s"] = 0.0 if is_reference else slower_s
    g_ref = columns["goodput_steps_per_s"] if is_reference else reference and reference.row["goodput_steps_per_s"]
    if g_ref:
        columns["rel_goodput"] = columns["goodput_steps_per_s"] / g_ref
    return columns


def _count_samples(train: dict[str, Any]) -> int:
    """The samples of a step of all ranks. Records of 0.1.0 lack `accumulate`."""
    samples: int = train["batch_size"] * train.get("accumulate", 1) * train["nproc"]
    return samples


def _count_warnings(record: RunRecord, own: StepHistory, line: Timeline | None) -> list[str]:
    """Warnings about quantities that are counted in two ways and disagree."""
    found = []
    if own.rolled_back_steps is None:
        found.append("an attempt recorded no restore: lost steps are unknown, replay is counted from executions alone")
    elif own.rolled_back_steps != own.replayed_steps:
        found.append(f"replay counted twice disagrees: {own.replayed_steps} executions against {own.rolled_back_steps}")
    if line is None:
        return found
    ledger = line.ledger_s()
    if (ledger["replay"] > 0) != (own.replayed_steps > 0):
        found.append(f"replay takes {ledger['replay']:.3f} s for {own.replayed_steps} replayed steps")
    stall_s = ledger["snapshot_stall"] + ledger["persist_stall"]
    stalls = [line.rank_stall_s(rank) for rank in range(record.spec["train"]["nproc"])]
    if stalls and not max(stalls) - 1e-9 <= stall_s <= sum(stalls) + 1e-9:
        found.append(
            f"the job stalls {stall_s:.3f} s, which lies outside its ranks' {max(stalls):.3f} to {sum(stalls):.3f} s"
        )
    return found


def _facts(record: RunRecord, line: Timeline | None, times: StepTimes) -> dict[str, Any]:
    """Facts of the run that threats, advice and comparisons with the reference use."""
    offsets = [e["real_minus_boot_ns"] for _, _, e in record.get_events("start") if "real_minus_boot_ns" in e]
    failed_at = {a: e["t"] for a, _, e in failure_checks.get_ending_failures(record)}
    return build_facts(record) | {
        "spawn_t": line.t0 if line else None,
        "exit_t": line.t1 if line else None,
        "final_digest": _final_digest(record),
        "tref_s": times.steady_s,
        "clock_step_ns": max(offsets) - min(offsets) if offsets else None,
        "drained_before_failure": [
            a for a, _, e in record.get_events("drain") if a in failed_at and e["t0"] < failed_at[a]
        ],
        "checkpoint_bytes": _checkpoint_bytes(record),
        "checkpoints_rerouted": _list_rerouted(record),
        "train": record.spec["train"],
        "engine": _get_engine(record.spec),
    }


def _get_engine(spec: dict[str, Any]) -> str | None:
    """The engine of the run's variant; None for the reference. A variant without a recipe has the engine's name."""
    if (recipe := spec.get("recipe")) is not None:
        return str(recipe["engine"])
    return None if spec["variant"] == REFERENCE else str(spec["variant"])


def _list_rerouted(record: RunRecord) -> list[str]:
    """Where each checkpoint went that the preferred place refused; in the order of attempts and steps."""
    # A checkpoint that several places refuse has several such events; the last place took it, or none did.
    return list({(attempt, e["s"]): e["to"] for attempt, _, e in record.get_events("rerouted")}.values())


def _checkpoint_bytes(record: RunRecord) -> int | None:
    """Bytes of the largest checkpoint over all ranks, None if none was persisted."""
    # A rank persists its part again if another rank's was refused.
    parts = {
        (attempt, event["s"], rank): event["bytes"]
        for attempt, rank, event in record.get_events("persisted")
        if isinstance(event.get("bytes"), int)
    }
    total: Counter[tuple[int, int]] = Counter()
    for (attempt, step, _), count in parts.items():
        total[attempt, step] += count
    return max(total.values(), default=None)


class TrainingMetrics(MetricsKind):
    """Goodput, ETTR, stall, the ledger, restarts, divergence and the gates of correctness."""

    columns: ClassVar[DTypes] = DTYPES

    def analyse(self, record: RunRecord, reference: RunAnalysis | None, *, has_reference: bool) -> RunAnalysis:
        """See `analyse`."""
        return analyse(record, reference, has_reference=has_reference)

    def can_compare_with(self, reference: RunAnalysis) -> bool:
        """Whether the reference completed and passes C1."""
        return super().can_compare_with(reference) and reference.row["c1"] == PASS

    def find_fault(self, run: RunAnalysis) -> str | None:
        """A run is at fault if it is missing, failed, has no wall-clock, or does not pass a gate."""
        row = run.row
        if (fault := super().find_fault(run)) is not None:
            return fault
        if failed := [code for code in run.gates if row[code.lower()] == FAIL]:
            return f"{row['variant']} does not pass {', '.join(failed)}"
        if row["correct"] is not True:
            return f"{row['variant']} could not be judged ({_describe_undecided(run)})"
        return f"{row['variant']} has no wall-clock" if row["goodput_steps_per_s"] is None else None


def _describe_undecided(run: RunAnalysis) -> str:
    """The gates of a run that could not be decided, each with what was missing."""
    undecided = {code: gate["evidence"] for code, gate in run.gates.items() if run.row[code.lower()] is None}
    waiting = [code for code, evidence in undecided.items() if evidence == _NO_REFERENCE]
    told = [f"{', '.join(waiting)} need the reference"] if waiting else []
    return "; ".join(
        [*told, *(f"{code}: {evidence}" for code, evidence in undecided.items() if evidence != _NO_REFERENCE)]
    )


PLUGIN = TrainingMetrics()
