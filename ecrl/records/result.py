"""The fields of `result.json`."""

from typing import NotRequired, TypedDict

RESULT_SCHEMA = 1


class Gate(TypedDict):
    """One correctness check. passed: None if it does not apply (never counts as passed). evidence: the reason."""

    passed: bool | None
    evidence: str


class Result(TypedDict):
    """`result.json`: written last, atomically. outcome: completed or failed; reason: why.

    gates: C1, C2, C3 and C5, which need this run only; the analysis computes C4 and C6 with the reference run.
    token: the token of the run.json that the result belongs to. failure: for a failed run, its kind and the log line
    that shows it. events: SHA-256 of each events file, by name; results of 0.1.0 have none.
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
    events: NotRequired[dict[str, str]]
