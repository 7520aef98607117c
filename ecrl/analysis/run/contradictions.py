"""What `result.json` says of a run, against the run's events."""

from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.records import correctness
from ecrl.records.reader import RunRecord
from ecrl.records.result import Gate

_SAME_WALL_S = 1e-3  # `result.json` has microseconds


def find_contradictions(record: RunRecord) -> list[str]:
    """Every value of the result that its own events contradict: wall-clock, restarts, gates, digests of the files."""
    result = record.result
    if result is None:
        return []
    found = []
    stamps = {event["e"]: event["t"] for event in record.launcher}
    if {"spawn", "exit"} <= stamps.keys():
        wall_s = (stamps["exit"] - stamps["spawn"]) / 1e9
        if abs(wall_s - result["wall_s"]) > _SAME_WALL_S:
            found.append(f"wall_s is {result['wall_s']:.6g}, its events say {wall_s:.6g}")
    restarts = correctness.count_restarts(record)
    if restarts != result["restarts"]:
        found.append(f"restarts is {result['restarts']}, its events say {restarts}")
    if any(gate["passed"] is not None for gate in result["gates"].values()):  # another kind's gates do not apply
        for code, gate in _compute_gates(record, result["exit_code"]).items():
            if gate["passed"] != result["gates"][code]["passed"]:
                said = result["gates"][code]["passed"]
                found.append(f"{code} is {said}, its events say {gate['passed']} ({gate['evidence']})")
    if (written := result.get("events")) is not None:
        changed = sorted(n for n in written.keys() | record.digests.keys() if written.get(n) != record.digests.get(n))
        found += [f"{name} is not the file that was written" for name in changed]
    return found


def _compute_gates(record: RunRecord, exit_code: int | None) -> dict[str, Gate]:
    try:
        return correctness.compute_gates(record, exit_code)
    except (KeyError, TypeError, ValueError):  # an event lacks a field, or has one of another type
        return correctness.compute_gates(drop_invalid_events(record), exit_code)
