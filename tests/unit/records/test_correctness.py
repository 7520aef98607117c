"""The gates that one run's records decide alone."""

from typing import Any

import pytest

from ecrl.records.correctness import compute_gates, count_restarts, find_ended_attempt, list_fired
from ecrl.records.reader import RunRecord

KILL = {"index": 0, "at": 3, "kind": "kill", "rank": 1}
SPEC: dict[str, Any] = {"train": {"steps": 4, "nproc": 2}, "failures": [KILL]}


def step(s: int, loss: float | None = 0.5) -> dict[str, Any]:
    return {"e": "step", "t": s, "s": s, "loss": loss}


def good() -> RunRecord:
    """Two ranks, one planned failure at 3, restored from 2, finished."""
    restored = {"e": "restored", "t": 1, "step": 2, "digest_recorded": "d", "digest_live": "d"}
    final = {"e": "final", "t": 9, "s": 4, "params_digest": "p"}
    end = {"e": "end", "t": 10}
    first = [step(1), step(2), step(3)]
    second = [restored, step(3), step(4), final, end]
    failure = {"e": "failure", "t": 3, "index": 0, "at": 3, "kind": "kill"}
    events = {(0, 0): first, (0, 1): [*first, failure], (1, 0): second, (1, 1): list(second)}
    return RunRecord(SPEC, None, {key: [dict(e) for e in value] for key, value in events.items()}, [])


def test_a_good_run_passes_every_gate() -> None:
    record = good()
    assert {name: gate["passed"] for name, gate in compute_gates(record, 0).items()} == dict.fromkeys(
        ("C1", "C2", "C3", "C5"), True
    )
    assert (count_restarts(record), list_fired(record)) == (1, [0])


@pytest.mark.parametrize(
    ("gate", "spoil"),
    [
        ("C1", lambda r: r.events[0, 1].pop()),  # the failure did not fire
        ("C1", lambda r: r.events[0, 0].append({"e": "failure", "t": 3, "index": 0})),  # it fired twice
        ("C1", lambda r: r.events[1, 1].pop()),  # a rank did not end
        ("C1", lambda r: r.events.update({(2, 0): r.events.pop((1, 0)), (2, 1): r.events.pop((1, 1))})),  # 2 restarts
        ("C2", lambda r: r.events[1, 1][0].update(digest_live="x")),
        ("C2", lambda r: r.events[1, 1][0].update(step=1)),  # ranks restored different steps
        ("C3", lambda r: r.events[1, 1][-2].update(params_digest="x")),
        ("C5", lambda r: r.events[1, 0][1].update(loss=float("nan"))),
    ],
)
def test_each_gate_fails_for_its_own_reason(gate: str, spoil: Any) -> None:
    record = good()
    spoil(record)
    decided = compute_gates(record, 0)
    assert decided[gate]["passed"] is False
    assert decided[gate]["evidence"]


def test_a_failure_that_ends_no_attempt_must_strike_once_and_is_followed_by_no_restart() -> None:
    record = good()
    lasting = {"index": 0, "at": 2, "kind": "scale", "rank": 0, "phase": "loss", "ends_attempt": False}
    record.spec = SPEC | {"failures": [lasting, SPEC["failures"][0] | {"index": 1}]}
    record.events[0, 1][-1]["index"] = 1
    restored = {"e": "restored", "t": 0, "step": 0, "digest_recorded": None, "digest_live": None}
    struck = {"e": "failure", "t": 1, "index": 0, "at": 2, "kind": "scale", "phase": "loss", "ends_attempt": False}
    record.events[0, 0][:1] = [restored, step(1), struck]
    gate = compute_gates(record, 0)["C1"]
    assert (gate["passed"], gate["evidence"]) == (True, "step 4, 2 failures, 1 restarts")
    record.events[0, 0].remove(struck)
    assert "planned failures [0, 1], struck [1]" in compute_gates(_copy(record), 0)["C1"]["evidence"]
    record.spec["failures"][0]["ends_attempt"] = True
    evidence = compute_gates(_copy(record), 0)["C1"]["evidence"]
    assert "1 restarts for 2 planned failures" in evidence


def _copy(record: RunRecord) -> RunRecord:
    return RunRecord(record.spec, record.result, record.events, record.launcher)


@pytest.mark.parametrize("exit_code", [1, -6, None])
def test_an_exit_code_fails_c1_where_a_rank_recorded_no_end(exit_code: int | None) -> None:
    record = good()
    record.events[1, 1].pop()
    assert compute_gates(record, exit_code)["C1"]["passed"] is False
    assert f"exit code {exit_code}" in compute_gates(record, exit_code)["C1"]["evidence"]


def test_what_a_process_does_after_every_rank_has_recorded_its_end_is_noted_and_no_fault() -> None:
    record = good()
    record.events[2, 0] = [{"e": "refused", "t": 20, "reason": "attempt 2 follows 1 planned failures"}]
    decided = compute_gates(record, 1)["C1"]
    assert decided["passed"] is True
    assert "exit code 1 after every rank had recorded its end" in decided["evidence"]
    assert "started again 1 times after its end" in decided["evidence"]
    assert find_ended_attempt(record) == 1
    other = good()
    other.events[2, 0] = [other.events[1, 0].pop()]
    assert find_ended_attempt(other) is None, "ends in two attempts make no ended attempt"


def test_what_cannot_be_decided_is_none_and_never_a_pass() -> None:
    empty = compute_gates(RunRecord(SPEC, None, {}, []), 0)
    assert [empty[name]["passed"] for name in ("C1", "C2", "C3", "C5")] == [False, None, None, None]
