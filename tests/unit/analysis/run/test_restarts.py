"""Where a restart's time went, on hand-written events."""

import pytest

from ecrl.analysis.run.restarts import PHASES, Restart, restarts
from ecrl.analysis.run.timeline import timeline
from ecrl.records.reader import Event
from tests.unit.analysis.campaign_builder import MS, Events, at, record, restored, spec, start, step

LAUNCHER = [at("spawn", 0), at("worker_failed", 230, local_rank=0, exitcode=-9), at("exit", 2000, code=0)]


def attempt(late: float = 0.0) -> list[Event]:
    """A rank of the second attempt; its imports end `late` ms later than the other's."""
    return [
        start(330, process_start=300 * MS), at("imported", 1000 + late), at("group", 1110), at("ready", 1150),
        restored(2, 1151, 1180), step(3, 1200, 1230), step(4, 1230, 1260),
    ]  # fmt: skip


def found(events: Events, reports: list[Event]) -> list[Restart]:
    whole = record(spec(train={"nproc": 2}), events, reports)
    line, _ = timeline(whole)
    assert line is not None
    return list(restarts(whole, line))


def killed() -> list[Event]:
    return [start(10), step(3, 150, 160), at("failure", 200, index=0, at=3, kind="kill")]


def test_every_phase_ends_when_the_last_rank_has_passed_it_and_all_of_them_add_up() -> None:
    survivor = [start(10), step(3, 150, 160)]
    events = {(0, 0): killed(), (0, 1): survivor, (1, 0): attempt(), (1, 1): attempt(late=90)}
    (restart,) = found(events, LAUNCHER)
    assert restart.seconds == {
        "detect": 0.030, "spawn": 0.070, "import": 0.790, "group": 0.020, "prepare": 0.040, "restore": 0.030,
        "first step": 0.020,
    }  # fmt: skip
    assert list(restart.seconds) == list(PHASES)
    assert restart.total_s == pytest.approx(sum(s for s in restart.seconds.values() if s is not None)) == 1.0
    assert (restart.attempt, restart.first_step_s) == (1, 1.030)


def test_what_the_records_do_not_hold_is_not_known() -> None:
    without_group = [e for e in attempt() if e["e"] != "group"]
    events = {(0, 0): killed(), (0, 1): [], (1, 0): attempt(), (1, 1): without_group}
    (restart,) = found(events, [LAUNCHER[0], LAUNCHER[2]])
    unknown = {phase for phase, seconds in restart.seconds.items() if seconds is None}
    assert unknown == {"detect", "spawn", "group", "prepare"}
    assert restart.total_s == 1.0


def test_a_process_that_seems_older_than_the_report_began_with_it() -> None:
    late = [{**LAUNCHER[1], "t": 305 * MS}]
    events = {(0, 0): killed(), (0, 1): [], (1, 0): attempt(), (1, 1): attempt()}
    (restart,) = found(events, [LAUNCHER[0], *late, LAUNCHER[2]])
    assert (restart.seconds["detect"], restart.seconds["spawn"]) == (0.105, 0.0)


def test_a_crash_that_nobody_planned_and_an_attempt_that_never_stepped_have_no_total() -> None:
    unplanned = {(0, 0): [start(10)], (0, 1): [start(10)], (1, 0): attempt(), (1, 1): attempt()}
    assert found(unplanned, LAUNCHER) == []
    stillborn = {(0, 0): killed(), (0, 1): [], (1, 0): [start(330)], (1, 1): [start(330)]}
    (restart,) = found(stillborn, LAUNCHER)
    assert restart.total_s is None
