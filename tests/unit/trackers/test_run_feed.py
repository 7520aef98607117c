"""The points of a run follow from its records, and are the same however often the reading is broken off."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.records.paths import RunPaths
from ecrl.trackers.run_feed import Progress, RunFeed, flatten_parameters, read_spec
from ecrl.trackers.tracker import Point
from tests.unit.analysis.campaign_builder import at, campaign, record, restored, save, span, spec, start, step, write


def read(paths: RunPaths, progress: Progress | None = None) -> list[Point]:
    told = read_spec(paths)
    assert told is not None
    feed = RunFeed(paths, told, Progress() if progress is None else progress)
    return [point for points in feed.read() for point in points]


def series(points: list[Point], name: str) -> list[tuple[int, float]]:
    return [(point.step, point.values[name]) for point in points if name in point.values]


@pytest.fixture
def run(tmp_path: Path) -> RunPaths:
    """12 steps, a checkpoint every 4, killed after step 6, restored at 4."""
    paths = campaign(tmp_path, variants=["blocking"], datasets=["fashion-mini"], seeds=[1], claims="")
    [found] = paths.suites.rglob("run.json")
    return RunPaths(found.parent)


def test_steps_marks_and_the_result_are_points(run: RunPaths) -> None:
    points, raw = read(run), json.loads(run.result.read_text())
    steps = [*range(1, 7), *range(5, 13)]
    assert series(points, "loss") == [(s, 1 / s) for s in steps]
    assert [s for s, _ in series(points, "step_s")] == steps
    assert series(points, "checkpoints") == [(4, 1), (8, 2), (12, 3)]
    assert series(points, "failures") == [(6, 1)]
    assert series(points, "restarts") == [(4, 1)]
    assert series(points, "final/wall_s") == [(12, raw["wall_s"])]
    assert series(points, "final/completed") == [(12, 1)]
    assert series(points, "final/C1") == [(12, 1)]


def test_goodput_and_stall_are_those_so_far_once_a_second(tmp_path: Path) -> None:
    steps = [step(s, 900 * s, 900 * s + 800) for s in range(1, 5)]
    events = {(0, 0): [start(500), *steps[:2], save(2, 2600, 2610, 2620, 2650), *steps[2:]]}
    events[0, 0].append(span("fence", 4400, 4450, s=2, name="all"))
    paths = RunPaths(tmp_path / "s" / "blocking" / "seed1")
    write(paths, record(spec(), events, [at("spawn", 0, pid=1)], outcome=None), spec())
    points = read(paths)
    assert series(points, "goodput_steps_per_s") == [(1, 1 / 1.7), (3, 3 / 3.5)]
    assert series(points, "stall_s") == [(1, 0), (3, 0.05)]
    assert points[0].unix_s == pytest.approx(1.7, abs=1e-6), "the stamp, moved by what `start` says"


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75, 0.99])
def test_a_reading_goes_on_where_the_last_one_ended(run: RunPaths, share: float) -> None:
    whole, files = read(run), [*run.all_events().values()]
    progress, contents = Progress(), {file: file.read_bytes() for file in files}
    result = run.result.read_bytes()
    run.result.unlink()
    first = files[: 1 + int(share * len(files))]
    for file in files:
        file.write_bytes(contents[file][: int(share * len(contents[file]))] if file == first[-1] else contents[file])
        if file not in first:
            file.unlink()
    points = read(run, progress)
    again = Progress(**json.loads(json.dumps(dataclasses.asdict(progress))))
    for file in files:
        file.write_bytes(contents[file])
    run.result.write_bytes(result)
    points += read(run, again)
    assert points == whole
    assert again.points == len(whole)
    assert read(run, again)[:-1] == [], "only the result is there to be read again"


def test_a_loss_that_is_read_late_is_a_point_of_its_step(tmp_path: Path) -> None:
    late: dict[str, Any] = {**step(1, 100, 200), "loss": None}
    paths = RunPaths(tmp_path / "s" / "blocking" / "seed1")
    events = {(0, 0): [start(0), late, step(2, 200, 300), at("loss", 350, s=1, loss=0.5)]}
    write(paths, record(spec(), events, [], outcome=None), spec())
    assert series(read(paths), "loss") == [(2, 0.5), (1, 0.5)]


def test_damage_and_missing_fields_cost_their_own_points_alone(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "s" / "blocking" / "seed1")
    lacking = {key: value for key, value in step(2, 200, 300).items() if key != "s"}
    events = {(0, 0): [start(0), step(1, 100, 200), lacking, step(3, 300, 400), restored(2, 1, 2)]}
    write(paths, record(spec(), events, [], outcome=None), spec())
    with paths.events(0, 0).open("a") as file:
        file.write("torn\n" + json.dumps(step(4, 400, 500)) + "\n" + '{"e":"step"')
    assert [s for s, _ in series(read(paths), "step_s")] == [1, 3, 4]


def test_a_failure_of_another_rank_counts_and_its_steps_do_not(tmp_path: Path) -> None:
    two = spec(train={"nproc": 2})
    paths = RunPaths(tmp_path / "s" / "blocking" / "seed1")
    events = {(0, 0): [start(0), step(1, 100, 200)], (0, 1): [start(0), step(1, 100, 200)]}
    write(paths, record(two, events, [], outcome=None), two)
    with paths.events(0, 1).open("a") as file:  # as the recorder writes it
        file.write(json.dumps(at("failure", 250, index=0, at=1, kind="kill"), separators=(",", ":")) + "\n")
    points = read(paths)
    assert series(points, "failures") == [(1, 1)]
    assert len(series(points, "loss")) == 1


def test_parameters_are_axes_and_settings_and_nothing_of_where_or_when(run: RunPaths) -> None:
    told = read_spec(run)
    assert told is not None
    parameters = flatten_parameters(told)
    assert parameters["checkpoint_every"] == 4
    assert parameters["train.deterministic"] is True
    assert parameters["seed"] == 1
    assert not parameters.keys() & {"prefix", "token", "claims_hash", "data_root", "schema", "run_hash"}
