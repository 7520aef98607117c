"""Whether each planned failure struck where it was meant to: by its own event and by the events beside it."""

from collections.abc import Callable
from typing import Any

import pytest

from ecrl.records.correctness import compute_gates
from ecrl.records.failure_checks import (
    count_expected_restarts,
    find_failures_after_end,
    find_faults,
    format_failure_step,
    get_ending_failures,
)
from ecrl.records.reader import Event, RunRecord

NPROC = 2


def at(kind: str, t: int, /, **fields: Any) -> Event:
    return {"e": kind, "t": t, **fields}


def steps(first: int, last: int, begin: int) -> list[Event]:
    """Steps of 10 ns each."""
    return [
        at("step", begin + 10 * (n + 1), t0=begin + 10 * n, s=s, loss=0.5) for n, s in enumerate(range(first, last + 1))
    ]


def began(t: int, restored: int) -> list[Event]:
    return [
        at("start", t, pid=1),
        at("ready", t + 1),
        at("restored", t + 2, step=restored, digest_recorded="d", digest_live="d"),
    ]


def ended(t: int) -> list[Event]:
    return [at("final", t, s=12, params_digest="p"), at("end", t + 1)]


def record(planned: dict[str, Any], struck: list[Event], *, other: list[Event] | None = None) -> RunRecord:
    """Attempt 0 as `struck` on the victim, and an attempt 1 that finishes from 4."""
    plan = {"index": 0, "kind": "kill", "rank": 0, **planned}
    victim = plan["rank"]
    last = [*began(1000, 4), *steps(5, 12, 1010), *ended(1200)]
    events = {
        (0, victim): struck,
        (0, 1 - victim): struck[:-1] if other is None else other,
        (1, 0): last,
        (1, 1): [dict(e) for e in last],
    }
    return RunRecord({"train": {"steps": 12, "nproc": NPROC}, "failures": [plan]}, None, events, [])


def failure(t: int, **fields: Any) -> Event:
    return at("failure", t, **{"index": 0, "kind": "kill", "at": 8, "phase": "step", **fields})


TO_8 = [*began(0, 0), *steps(1, 8, 10)]
SAVE_4 = [at("persisted", 52, t0=51, s=4), at("committed", 53, s=4)]
PERSISTED_8 = at("persisted", 95, t0=92, s=8, bytes=1)
COMMITTED_8 = at("committed", 96, s=8)


def of(phase: str) -> dict[str, Any]:
    return {"at": 8, "phase": phase}


GOOD: dict[str, tuple[dict[str, Any], list[Event]]] = {
    "step": ({"at": 8}, [*TO_8, failure(95)]),
    "staging": (of("staging"), [*TO_8, *SAVE_4, failure(95, phase="staging")]),
    "persist": (of("persist"), [*TO_8, at("staged", 91, s=8), failure(95, phase="persist")]),
    "commit": (of("commit"), [*TO_8, PERSISTED_8, failure(97, phase="commit")]),
    "retention": (of("retention"), [*TO_8, PERSISTED_8, COMMITTED_8, failure(97, phase="retention")]),
    "instant": ({"after_s": 55e-9}, [*began(0, 0), *steps(1, 6, 10), failure(71, at=6)]),
    "group": ({"at": 8, "ranks": "all"}, [*TO_8, failure(95)]),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_struck_where_it_was_meant_to_has_no_fault_and_passes_c1(name: str) -> None:
    planned, struck = GOOD[name]
    found = record(planned, struck)
    assert find_faults(found) == []
    assert compute_gates(found, 0)["C1"] == {"passed": True, "evidence": "step 12, 1 failures, 1 restarts"}


@pytest.mark.parametrize(
    ("name", "spoil", "fault"),
    [
        ("step", lambda e: e[-1].update(at=7), "struck at step 7"),
        ("step", lambda e: e.pop(-2), "the victim's last step was 7"),
        ("step", lambda e: e[-1].update(phase="persist"), "struck in persist"),
        ("staging", lambda e: e.insert(-1, at("staged", 92, s=8)), "checkpoint 8 was staged already"),
        ("staging", lambda e: e.pop(10), "step 8 was not completed"),
        ("persist", lambda e: e.insert(-1, PERSISTED_8), "checkpoint 8 was persisted already"),
        ("commit", lambda e: e.insert(-1, COMMITTED_8), "checkpoint 8 was committed already"),
        ("commit", lambda e: e.remove(PERSISTED_8), "only 1 ranks had persisted checkpoint 8"),
        ("retention", lambda e: e.remove(COMMITTED_8), "checkpoint 8 was not committed yet"),
        ("retention", lambda e: e.insert(-1, at("removed", 96, s=4)), "the old checkpoint was removed already"),
        ("instant", lambda e: e.pop(-2), "struck before its instant"),
        ("instant", lambda e: e.insert(-1, at("step", 81, t0=70, s=7, loss=0.5)), "struck a step too late"),
    ],
)
def test_each_neighbour_that_does_not_fit_is_told(name: str, spoil: Callable[[list[Event]], Any], fault: str) -> None:
    planned, good = GOOD[name]
    struck = [dict(event) for event in good]
    other = [dict(event) for event in good[:-1]]
    spoil(struck)
    found = record(planned, struck, other=other)
    assert [text.partition(": ")[2] for text in find_faults(found)] == [fault]
    assert compute_gates(found, 0)["C1"]["passed"] is False


def test_another_rank_is_a_fault() -> None:
    planned, struck = GOOD["step"]
    found = record(planned, struck)
    found.spec["failures"][0]["rank"] = 1
    assert find_faults(found) == ["failure 0 (8, rank 1): struck rank 0"]


def test_a_rank_that_outlives_its_group_is_a_fault() -> None:
    planned, struck = GOOD["group"]
    other = [*struck[:-1], at("error", 95 + 2_000_000_000, type="RuntimeError")]
    assert find_faults(record(planned, struck, other=other)) == ["failure 0 (8, rank 0): rank 1 lived on"]


@pytest.mark.parametrize(
    ("phase", "attempt", "before", "fault"),
    [
        ("restore", 1, ["start", "ready"], None),
        ("restore", 1, ["start"], "the victim was not ready to load"),
        ("restore", 1, ["start", "ready", "restored"], "the victim had restored already"),
        ("init", 1, ["start"], None),
        ("init", 1, ["start", "ready"], "the victim was ready already"),
        ("init", 2, ["start"], "not in the attempt after the failure before it"),
    ],
)
def test_restarts_are_struck_in_the_attempt_that_follows(
    phase: str, attempt: int, before: list[str], fault: str | None
) -> None:
    plan = [
        {"index": 0, "at": 8, "kind": "kill", "rank": 0},
        {"index": 1, "at": 8, "kind": "kill", "rank": 0, "phase": phase},
    ]
    again = [at(kind, 200, step=4) for kind in before] + [failure(210, index=1, phase=phase, at=4)]
    events = {(0, 0): GOOD["step"][1], (attempt, 0): again}
    found = find_faults(RunRecord({"train": {"nproc": 1}, "failures": plan}, None, events, []))
    assert [text.partition(": ")[2] for text in found] == ([] if fault is None else [fault])


def lived_on(after_s: float) -> RunRecord:
    """A run that ended at 130 ns, without its failure."""
    own = [*began(0, 0), *steps(1, 12, 10), *ended(140)]
    plan = [{"index": 0, "after_s": after_s, "kind": "kill", "rank": 1}]
    events = {(0, 0): own, (0, 1): [dict(e) for e in own]}
    return RunRecord({"train": {"steps": 12, "nproc": NPROC}, "failures": plan}, None, events, [])


def test_an_instant_after_the_end_is_no_fault_and_the_gate_says_so() -> None:
    found = lived_on(121e-9)
    assert find_failures_after_end(found) == [0]
    assert compute_gates(found, 0)["C1"] == {
        "passed": True,
        "evidence": "step 12, 0 failures, 0 restarts, 1 planned beyond the end of the run",
    }


def test_an_instant_that_the_run_saw_and_that_did_not_strike_is_a_fault() -> None:
    found = lived_on(119e-9)
    assert find_failures_after_end(found) == []
    assert compute_gates(found, 0)["C1"]["evidence"].startswith("planned failures [0], struck []")


def test_a_step_that_did_not_strike_is_never_beyond_the_end() -> None:
    found = lived_on(1e9)
    found.spec["failures"].insert(0, {"index": 7, "at": 12, "kind": "kill", "rank": 0})
    assert find_failures_after_end(found) == [0]
    assert compute_gates(found, 0)["C1"]["passed"] is False


@pytest.mark.parametrize(
    ("planned", "shown"),
    [({"at": 400}, 400), ({"at": 900, "phase": "persist"}, "900@persist"), ({"after_s": 412.5}, "412.5s")],
)
def test_a_place_is_shown_in_one_word(planned: dict[str, Any], shown: int | str) -> None:
    assert format_failure_step(planned) == shown


LASTING = {"kind": "scale", "phase": "loss", "ends_attempt": False}


def inside(planned: dict[str, Any], *before: Event) -> RunRecord:
    """One attempt of the run, struck inside a step after `before`, that then goes on to its end."""
    struck = failure(95, **LASTING)
    rest = [*steps(9, 12, 100), *ended(200)]
    events = {(0, 0): [*before, struck, *rest], (0, 1): [*before, *rest]}
    plan = {"index": 0, "at": 9, "rank": 0, **LASTING, **planned}
    struck["at"] = plan["at"]
    return RunRecord({"train": {"steps": 12, "nproc": NPROC}, "failures": [plan]}, None, events, [])


def test_a_failure_inside_a_step_strikes_after_the_step_before_it_and_others_live_on() -> None:
    assert find_faults(inside({}, *TO_8)) == []
    assert find_faults(inside({"at": 5}, *began(0, 4))) == [], "the first step of an attempt"
    assert find_faults(inside({"at": 10}, *TO_8)) == ["failure 0 (10@scale, rank 0): the victim's last step was 8"]
    assert find_faults(inside({"at": 8}, *TO_8)) == ["failure 0 (8@scale, rank 0): the victim's last step was 8"]
    assert find_faults(inside({"phase": "update"}, *TO_8)) == ["failure 0 (9@scale, rank 0): struck in loss"]


def test_restarts_are_expected_after_failures_that_end_an_attempt_alone() -> None:
    plan = [{"at": 3, "kind": "kill"}, {"at": 4} | LASTING, {"at": 9, "kind": "kill", "ends_attempt": True}]
    assert count_expected_restarts(plan) == 2
    assert count_expected_restarts([]) == 0
    found = inside({}, *TO_8)
    assert get_ending_failures(found) == []
    found.events[0, 1].append(failure(300))
    assert [e["t"] for _, _, e in get_ending_failures(RunRecord(found.spec, None, found.events, []))] == [300]


def test_a_failure_after_which_the_attempt_goes_on_is_shown_with_its_kind() -> None:
    assert format_failure_step({"at": 300} | LASTING) == "300@scale"
    assert format_failure_step({"at": 300, "kind": "oom", "phase": "loss"}) == "300@loss"
