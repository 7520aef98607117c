"""A budget divided among steps, each a process; one that fails or is late is told, and the next one goes on."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import steps
from bench.steps import FAILED, OK, RUNNING, SKIPPED, TIMEOUT, WAITING, Outcome, Program, Step, compute_limit_s

CHILD = "tests.unit.bench_gpu.child"


def step(name: str, *arguments: str, **more: Any) -> Step:
    return Step(name, CHILD, arguments, 1, more.pop("figure", lambda out, _errors: out.read_text().strip()), **more)


def carried_out(tmp_path: Path, *program: Step, budget_s: float = 60.0, skip: str = "") -> list[Outcome]:
    made = Program(program, budget_s, tmp_path / "logs", lambda _outcomes: None)
    return made.run(lambda one: "no need" if one.name == skip else "", lambda _text: None)


@given(st.lists(st.floats(0.1, 50), min_size=1, max_size=9), st.floats(1, 1e4), st.data())
def test_every_step_has_at_least_its_part_and_all_together_no_more_than_the_budget(
    weights: list[float], budget_s: float, data: st.DataObject
) -> None:
    left_s = budget_s
    for index, weight in enumerate(weights):
        limit_s = compute_limit_s(weights, index, budget_s, left_s)
        assert limit_s >= budget_s * weight / sum(weights) - 1e-6 * budget_s
        left_s -= data.draw(st.floats(0, 1)) * limit_s
    assert left_s >= -1e-6 * budget_s


def test_a_step_has_what_those_before_it_left_over() -> None:
    assert [compute_limit_s([1, 1, 2], index, 100, left_s) for index, left_s in ((0, 100), (1, 95), (2, 90))] == [
        25, 45, 90,
    ]  # fmt: skip
    assert compute_limit_s([1, 1], 0, 100, 20) == 0, "of a budget that is overdrawn, nothing"


def test_a_step_that_fails_is_told_with_its_last_lines_and_the_next_one_goes_on(tmp_path: Path) -> None:
    failed, ok = carried_out(tmp_path, step("first", "fail"), step("second", "ok"))
    assert (failed.state, failed.exit_code, failed.tail) == (FAILED, 1, ["before it went wrong", "it went wrong"])
    assert failed.figure == "exit 1: it went wrong"
    assert (ok.state, ok.exit_code, ok.figure, ok.tail) == (OK, 0, "42", [])


def test_a_step_without_its_result_has_failed(tmp_path: Path) -> None:
    def read(_out: Path, _errors: Path) -> str:
        return (tmp_path / "absent").read_text()

    (outcome,) = carried_out(tmp_path, step("first", "ok", figure=read))
    assert outcome.state == FAILED
    assert "its result cannot be read: FileNotFoundError" in outcome.figure
    assert outcome.tail == ["42"]


def test_a_step_that_is_late_is_ended_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "_GRACE_S", (0.2, 0.2, 5.0))
    begun = time.monotonic()
    late, ok = carried_out(tmp_path, step("first", "hang", str(tmp_path / "pid")), step("second", "ok"), budget_s=8.0)
    assert (late.state, late.exit_code) == (TIMEOUT, None)
    assert late.figure == "ended after 4 s: still at it", "not what it said on being ended"
    assert late.tail[0] == "still at it"
    assert "go on with: x" in late.tail
    assert ok.state == OK
    assert time.monotonic() - begun < 8.0
    pid = int((tmp_path / "pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_nothing_is_begun_on_a_spent_budget_or_where_there_is_a_reason(tmp_path: Path) -> None:
    spent, needless = carried_out(tmp_path, step("first", "ok"), step("second", "ok"), budget_s=3.0, skip="second")
    assert (spent.state, spent.figure) == (SKIPPED, "the budget is spent")
    assert (needless.state, needless.figure, needless.exit_code) == (SKIPPED, "no need", None)


def test_what_there_is_is_recorded_before_and_after_every_step(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    path = tmp_path / "steps.json"

    def record(outcomes: Sequence[Outcome]) -> None:
        steps.write_json(path, {"device": "cpu"}, outcomes)
        seen.append([one["state"] for one in json.loads(path.read_text())["steps"]])

    Program([step("a", "ok"), step("b", "fail")], 60, tmp_path / "logs", record).run(lambda _: "", lambda _: None)
    assert seen == [[WAITING] * 2, [RUNNING, WAITING], [OK, WAITING], [OK, RUNNING], [OK, FAILED]]
    there = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert there == ["a.err.txt", "a.out.txt", "b.err.txt", "b.out.txt"]


def test_a_command_is_shown_as_a_person_types_it() -> None:
    assert Step("x", "ecrl", ("doctor", "a b.toml"), 1, lambda *_: "").command == "ecrl doctor 'a b.toml'"
    assert step("x", "ok", environment={"A": "1"}).command == f"A=1 python -m {CHILD} ok"


def test_a_table_has_a_row_for_every_step() -> None:
    outcomes = [Outcome("doctor", "", OK, 5.0, 3.2, 0, "fit"), Outcome("engines", "", SKIPPED, figure="a|b\nc")]
    rows = steps.build_table(outcomes)
    assert steps.build_text(rows).splitlines() == [
        "step     state    seconds  figure",
        "doctor   ok       3        fit",
        "engines  skipped  -        a|b c",
    ]
    assert steps.build_markdown(rows).splitlines()[-1] == r"| engines | skipped | - | a\|b c |"
