"""The fields of `result.json`."""

from typing import NotRequired, TypedDict

RESULT_SCHEMA = 1


class Gate(TypedDict):
    """One correctness check: `passed` is None where it does not apply (never a pass); evidence says why."""

    passed: bool | None
    evidence: str


class Result(TypedDict):
    """`result.json`: written last, atomically. outcome: completed or failed (reason says why).

    gates: C1, C2, C3, C5 of this run alone; C4 and C6 need the reference run and are the analysis's.
    token: that of the run.json it belongs to. failure: of a failed run, its kind and the line of a log that says so.
    """

    schema: int
    run_hash: str
    outcome: str
    reason: str
    log: str
    exit_code: int | None
    wall_s: float
    restarts: int
    failures_planned: int
    failures_fired: int
    gates: dict[str, Gate]
    started_at: str
    finished_at: str
    machine: dict[str, object]
    token: NotRequired[int]
    failure: NotRequired[dict[str, str]]
