"""Telling crashes from planned failures, and saying why a run failed."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.launch.campaign.recover import Policy
from ecrl.launch.runs.outcome import RunEvidence, add_inputs
from tests.unit.launch.stand_in import StandIn, control, request


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


def test_a_run_that_dies_before_its_first_step_names_what_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_DEBUG", "DETAIL")
    asked = request(tmp_path / "results")
    control(StandIn({"early/blocking": "crash"})).run(asked, Policy())
    results = [json.loads(path.read_text()) for path in asked.paths.root.rglob("result.json")]
    assert all(result["machine"]["environment"]["TORCH_DISTRIBUTED_DEBUG"] == "DETAIL" for result in results)
    first = findings((0, 0, {"e": "step", "t": 1, "s": 1}))
    told = [add_inputs("rank 0 died", found, {"NCCL_DEBUG": "x", "GLOO_A": "1"}) for found in (findings(), first)]
    assert told == ["rank 0 died; GLOO_A=1, NCCL_DEBUG=x are set", "rank 0 died"]
    assert add_inputs("rank 0 died", findings(), {"HOME": "/"}) == "rank 0 died"
