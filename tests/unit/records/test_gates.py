"""The gates that one run's records decide alone."""

from typing import Any

import pytest

from ecrl.records.gates import fired, gates, restarts
from ecrl.records.reader import RunRecord

SPEC = {"train": {"steps": 4, "nproc": 2}, "failures": [{"index": 0, "at": 3, "kind": "kill", "rank": 1}]}


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
    assert {name: gate["passed"] for name, gate in gates(record, 0).items()} == dict.fromkeys(
        ("C1", "C2", "C3", "C5"), True
    )
    assert (restarts(record), fired(record)) == (1, [0])


@pytest.mark.parametrize(
    ("gate", "spoil"),
    [
        ("C1", lambda r: r.events[0, 1].pop()),  # the failure did not fire
        ("C1", lambda r: r.events[0, 0].append({"e": "failure", "t": 3, "index": 0})),  # it fired twice
        ("C1", lambda r: r.events[1, 1].pop()),  # a rank did not end
        ("C1", lambda r: r.events.update({(2, 0): []})),  # one restart too many
        ("C2", lambda r: r.events[1, 1][0].update(digest_live="x")),
        ("C2", lambda r: r.events[1, 1][0].update(step=1)),  # ranks restored different steps
        ("C3", lambda r: r.events[1, 1][-2].update(params_digest="x")),
        ("C5", lambda r: r.events[1, 0][1].update(loss=float("nan"))),
    ],
)
def test_each_gate_fails_for_its_own_reason(gate: str, spoil: Any) -> None:
    record = good()
    spoil(record)
    decided = gates(record, 0)
    assert decided[gate]["passed"] is False
    assert decided[gate]["evidence"]


def test_an_exit_code_other_than_0_fails_c1() -> None:
    assert gates(good(), 1)["C1"]["passed"] is False
    assert gates(good(), None)["C1"]["passed"] is False


def test_what_cannot_be_decided_is_none_and_never_a_pass() -> None:
    empty = gates(RunRecord(SPEC, None, {}, []), 0)
    assert [empty[name]["passed"] for name in ("C1", "C2", "C3", "C5")] == [False, None, None, None]
