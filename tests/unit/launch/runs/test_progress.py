"""What a run is doing, from its events; how long the rest takes, from measured times."""

from pathlib import Path
from typing import Any

import pytest

from ecrl.config.run import RunSpec
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.runs.progress import RunProgress, SilentObserver, Totals
from tests.unit.launch.stand_in import MATRIX, StandIn, control, request


def step(s: int, t_s: float = 0.0) -> dict[str, Any]:
    return {"e": "step", "s": s, "t": round(t_s * 1e9), "t0": 0, "loss": 0.5, "ids": "x"}


def test_a_run_is_seen_starting_training_restarting_replaying_and_draining() -> None:
    progress = RunProgress(total=4)
    assert progress.doing == "starting"
    seen = []
    events: list[tuple[int, dict[str, Any]]] = [
        (0, {"e": "ready"}),
        (0, {"e": "restored", "t": 0, "step": 0}),
        (0, step(1)),
        (0, step(2)),
        (0, {"e": "save", "s": 2}),
        (0, step(3)),
        (0, {"e": "failure", "index": 0, "at": 3, "kind": "kill"}),
        (1, {"e": "start", "pid": 1, "world_size": 2}),
        (1, {"e": "ready"}),
        (1, {"e": "restored", "t": 0, "step": 2}),
        (1, step(3)),
        (1, step(4)),
        (1, {"e": "final", "s": 4}),
    ]
    for attempt, event in events:
        progress.note(attempt, 0, event)
        seen.append(progress.doing)
    assert seen == [
        "restoring", "training", "training", "training", "saving", "training",
        "restarting", "restarting", "restoring", "training", "replaying", "draining", "stopping",
    ]  # fmt: skip
    assert (progress.restarts, progress.failures, progress.furthest, progress.loss) == (1, 1, 4, 0.5)


def test_events_of_other_ranks_count_failures_but_do_not_say_what_rank_0_does() -> None:
    progress = RunProgress(total=4)
    progress.note(0, 0, step(1))
    progress.note(0, 1, {"e": "ready"})
    assert progress.doing == "training"
    progress.note(0, 1, {"e": "failure", "index": 0, "at": 1, "kind": "kill"})
    assert progress.doing == "restarting"


def test_a_failure_after_which_the_attempt_goes_on_is_counted_and_nothing_restarts() -> None:
    progress = RunProgress(total=4)
    progress.note(0, 0, {"e": "restored", "t": 0, "step": 0})
    progress.note(0, 1, {"e": "failure", "index": 0, "at": 1, "kind": "scale", "ends_attempt": False})
    assert (progress.failures, progress.doing) == (1, "training")


def test_speed_is_that_of_the_records_however_late_they_are_read() -> None:
    progress = RunProgress(total=20)
    progress.note(0, 0, {"e": "restored", "t": 0, "step": 0})
    for s, t_s in ((1, 3.0), (2, 3.5), (6, 5.5), (7, 8.5)):  # of steps 3 to 5 an EventTail keeps none
        progress.note(0, 0, step(s, t_s))
    assert progress.steps_per_s == pytest.approx(7 / 8.5)
    assert progress.longest_step_s == 3.0
    progress.note(1, 0, {"e": "start", "pid": 1, "world_size": 2})
    assert [progress.steps_per_s, progress.longest_step_s] == [None, None]


class Starts(SilentObserver):
    """Notes which runs start, how many are done by then, and for how many after it time is reckoned."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, float | None]] = []

    def run_started(self, spec: RunSpec, totals: Totals) -> None:
        left = None if totals.left_s is None or not totals.run_s else totals.left_s / totals.run_s
        self.seen.append((spec.folder_name, totals.runs_done, left))


def test_time_left_is_reckoned_for_the_runs_that_will_be_made_alone(tmp_path: Path) -> None:
    control(StandIn()).run(request(tmp_path / "results"), Policy())
    later = Starts()
    control(StandIn(), later).run(request(tmp_path / "results", text=MATRIX + "[run]\naa = true\n"), Policy())
    assert later.seen == [("reference-aa", 6, 1.0), ("reference-aa", 7, 0.0)]


def test_the_repeat_of_the_reference_is_reckoned_with(tmp_path: Path) -> None:
    text = MATRIX.replace("[failures]", 'variants = ["reference"]\n[failures]') + "[run]\naa = true\n"
    observer = Starts()
    control(StandIn(), observer).run(request(tmp_path / "results", text=text), Policy())
    assert [left for _, _, left in observer.seen] == [None, 2.0, 1.0, 0.0]
