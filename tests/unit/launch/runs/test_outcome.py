"""Telling crashes from planned failures, and saying why a run failed."""

from typing import Any

import pytest

from ecrl.launch.runs.outcome import RunEvidence


def findings(*events: tuple[int, int, dict[str, Any]]) -> RunEvidence:
    found = RunEvidence()
    for attempt, rank, event in events:
        found.note(attempt, rank, event)
    return found


def failure(t: int) -> dict[str, Any]:
    return {"e": "failure", "t": t, "index": 0, "at": 3, "kind": "kill"}


def error(t: int, message: str = "boom") -> dict[str, Any]:
    return {"e": "error", "t": t, "type": "RuntimeError", "message": message, "trace": ""}


def test_a_survivors_error_after_a_planned_failure_is_collateral() -> None:
    assert findings((0, 1, error(20)), (0, 0, failure(10))).find_crash() is None


@pytest.mark.parametrize(
    ("what", "events"),
    [
        ("before the failure of the same attempt", [(0, 1, error(5)), (0, 0, failure(10))]),
        ("in a later attempt", [(0, 0, failure(10)), (1, 1, error(20))]),
        ("without any failure", [(0, 1, error(5))]),
        ("after a failure that ends no attempt", [(0, 0, failure(10) | {"ends_attempt": False}), (0, 1, error(20))]),
    ],
)
def test_every_other_error_is_a_crash(what: str, events: list[tuple[int, int, dict[str, Any]]]) -> None:
    crash = findings(*events).find_crash()
    assert crash is not None, what
    assert crash[2]["e"] == "error"


def test_the_first_of_several_errors_is_named_and_errors_come_before_refusals() -> None:
    refused = {"e": "refused", "t": 1, "reason": "attempt 1 follows a crash"}
    crash = findings((1, 0, refused), (0, 1, error(9, "second")), (0, 0, error(7, "first"))).find_crash()
    assert crash is not None
    assert crash[2]["message"] == "first"
    only = findings((1, 0, refused)).find_crash()
    assert only is not None
    assert only[2]["e"] == "refused"
