"""The correctness gates that need one run's records only: C1, C2, C3, C5. (C4 and C6 need the reference.)

Pure functions of a `RunRecord`. The launcher stores their outcome in `result.json`; the analysis recomputes them.
"""

import math

from ecrl.records import failure_checks
from ecrl.records.reader import RunRecord
from ecrl.records.result import Gate


def count_restarts(record: RunRecord) -> int:
    """How often the worker group was restarted."""
    return max(record.attempts, default=0)


def find_ended_attempt(record: RunRecord) -> int | None:
    """The attempt in which every rank recorded its end, or None if there is none.

    The run is then complete, whatever its processes do afterwards and whatever the launcher's exit code is.
    """
    for attempt in sorted(record.attempts):
        ended = {rank for a, rank, _ in record.get_events("end") if a == attempt}
        if len(ended) == record.spec["train"]["nproc"]:
            return attempt
    return None


def list_fired(record: RunRecord) -> list[int]:
    """The indices of the planned failures that struck, sorted. A failure that struck twice occurs twice."""
    return sorted(event["index"] for _, _, event in record.get_events("failure"))


def compute_gates(record: RunRecord, exit_code: int | None) -> dict[str, Gate]:
    """The gates of one run. `passed` is None for a gate that cannot be decided; None never counts as passed."""
    return {
        "C1": _check_finished(record, exit_code),
        "C2": _check_restored_exactly(record),
        "C3": _check_ranks_agree(record),
        "C5": _check_loss_finite(record),
    }


def _gate(passed: bool | None, evidence: str) -> Gate:
    return {"passed": passed, "evidence": evidence}


def _check_finished(record: RunRecord, exit_code: int | None) -> Gate:
    """C1: the run reached its target step, every rank recorded its end, each planned failure struck once at its place,
    and the number of restarts is the number of failures that end an attempt.

    A failure planned for an instant after the end of the run is no fault. A nonzero exit code is a fault only if some
    rank did not record its end; otherwise the evidence mentions it.
    """
    target = record.spec["train"]["steps"]
    reached = max((e["s"] for _, _, e in record.get_events("final")), default=0)
    struck, beyond = list_fired(record), failure_checks.find_failures_after_end(record)
    plan = [planned for planned in record.spec["failures"] if planned["index"] not in beyond]
    due, num_expected = [planned["index"] for planned in plan], failure_checks.count_expected_restarts(plan)
    num_ended = len({rank for _, rank, _ in record.get_events("end")})
    ended = find_ended_attempt(record)
    num_restarts = count_restarts(record) if ended is None else ended
    faults = []
    if reached != target:
        faults.append(f"reached step {reached} of {target}")
    if exit_code != 0 and ended is None:
        faults.append(f"exit code {exit_code}")
    if struck != due:
        faults.append(f"planned failures {due}, struck {struck}")
    if num_restarts != num_expected:
        which = "" if num_expected == len(due) else " that end an attempt"
        faults.append(f"{num_restarts} restarts for {num_expected} planned failures{which}")
    faults += failure_checks.find_faults(record)
    if ended is None:
        faults.append(f"{num_ended} of {record.spec['train']['nproc']} ranks ended")
    notes = f", {len(beyond)} planned beyond the end of the run" if beyond else ""
    if ended is not None and ended < count_restarts(record):
        notes += f", started again {count_restarts(record) - ended} times after its end"
    if exit_code:
        notes += f", exit code {exit_code} after every rank had recorded its end"
    return _gate(not faults, "; ".join(faults) or f"step {target}, {len(due)} failures, {num_restarts} restarts{notes}")


def _check_restored_exactly(record: RunRecord) -> Gate:
    """C2: after every restore of a checkpoint, each rank's live state has the digest recorded at the snapshot.

    The gate cannot be decided for engines that record no digests.
    """
    restores = [(a, r, e) for a, r, e in record.get_events("restored") if e["step"] > 0]
    if not restores:
        return _gate(None, "no checkpoint was restored")
    wrong = [
        f"attempt {a} rank {r} step {e['step']}" for a, r, e in restores if e["digest_live"] != e["digest_recorded"]
    ]
    split = [a for a in record.attempts if len({e["step"] for b, _, e in restores if b == a}) > 1]
    if split:
        return _gate(False, f"ranks restored different steps in attempt {split[0]}")
    if all(e["digest_recorded"] is None for _, _, e in restores):
        return _gate(None, "the engine records no digests")
    return _gate(not wrong, "; ".join(wrong) or f"{len(restores)} restores match their snapshots")


def _check_ranks_agree(record: RunRecord) -> Gate:
    """C3: parameters and optimizer state are bitwise equal on all ranks at the end."""
    digests = {rank: e["params_digest"] for _, rank, e in record.get_events("final")}
    if len(digests) < record.spec["train"]["nproc"]:
        return _gate(None, f"only {len(digests)} ranks recorded their final state")
    found = f"{len(set(digests.values()))} distinct digests on {len(digests)} ranks"
    if len(set(digests.values())) > 1 and not all(e["replicated"] for _, _, e in record.get_events("attached")):
        return _gate(None, f"not measured: {found}, and the script does not say that its ranks hold one state")
    return _gate(len(set(digests.values())) == 1, found)


def _check_loss_finite(record: RunRecord) -> Gate:
    """C5: the loss is finite at every step."""
    losses = [e for kind in ("step", "loss") for _, _, e in record.get_events(kind) if e["loss"] is not None]
    if not losses:
        return _gate(None, "no loss was recorded")
    bad = [e["s"] for e in losses if not math.isfinite(e["loss"])]
    return _gate(not bad, f"not finite at step {min(bad)}" if bad else f"{len(losses)} losses finite")
