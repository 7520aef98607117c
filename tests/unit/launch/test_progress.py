"""What a run is doing, from its events; how long the rest takes, from measured times."""

from pathlib import Path
from typing import Any

from ecrl.launch.progress import RunProgress, RunTimes
from ecrl.launch.request import requested
from tests.unit.launch.stand_in import request


def step(s: int) -> dict[str, Any]:
    return {"e": "step", "s": s, "t": 0, "t0": 0, "loss": 0.5, "ids": "x"}


def test_a_run_is_seen_starting_training_restarting_replaying_and_draining() -> None:
    progress = RunProgress(total=4)
    assert progress.doing == "starting"
    seen = []
    events: list[tuple[int, dict[str, Any]]] = [
        (0, {"e": "ready"}),
        (0, {"e": "restored", "step": 0}),
        (0, step(1)),
        (0, step(2)),
        (0, {"e": "save", "s": 2}),
        (0, step(3)),
        (0, {"e": "failure", "index": 0, "at": 3, "kind": "kill"}),
        (1, {"e": "start"}),
        (1, {"e": "ready"}),
        (1, {"e": "restored", "step": 2}),
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


def test_expected_times_come_from_the_most_similar_runs_measured(tmp_path: Path) -> None:
    campaign = requested(request(tmp_path / "results"))
    specs = {spec.variant: spec for spec, _ in campaign.runs(campaign.suites[0])}
    times = RunTimes()
    assert times.expected_s("noise", "cnn", "blocking") is None
    times.add(specs["reference"], 10.0)
    assert times.expected_s("noise", "cnn", "blocking") == 10.0
    times.add(specs["blocking"], 20.0)
    assert times.expected_s("noise", "cnn", "blocking") == 20.0
    assert times.expected_s("cifar10", "cnn", "reference") == 10.0
