"""What an injector reads from the run's own records."""

from pathlib import Path

from ecrl.failures.history import RecordedAttemptContext
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder


def record(paths: RunPaths, attempt: int, rank: int, *steps: tuple[int, int]) -> None:
    recorder = Recorder(paths.events(attempt, rank))
    recorder.event("start", pid=100 * attempt + rank)
    for step, begun in steps:
        recorder.event("step", s=step, t0=begun)
    recorder.close()


def test_the_group_is_the_other_ranks_of_this_attempt(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    for attempt in (0, 1):
        for rank in range(3):
            record(paths, attempt, rank)
    assert RecordedAttemptContext(paths, 1, 1).get_pids("all") == [100, 102]
    assert RecordedAttemptContext(paths, 1, 0).get_pids([0, 2]) == [102]


def test_the_first_step_is_the_earliest_of_attempt_0(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    record(paths, 0, 0)
    scene = RecordedAttemptContext(paths, 1, 0)
    assert scene.get_first_step_ns() is None
    record(paths, 0, 1, (1, 70), (2, 80))
    record(paths, 1, 0, (1, 60))
    assert scene.get_first_step_ns() == 70
