"""Expected run times, from those that were measured."""

from ecrl.launch.runs.run_times import RunTimes

BLOCKING, REFERENCE = ("noise", "cnn", "blocking"), ("noise", "cnn", "reference")


def test_expected_times_come_from_the_most_similar_runs_measured() -> None:
    times = RunTimes()
    assert times.estimate_run_s(BLOCKING) is None
    times.add(REFERENCE, 10.0)
    assert times.estimate_run_s(BLOCKING) == 10.0
    times.add(BLOCKING, 20.0)
    assert times.estimate_run_s(BLOCKING) == 20.0
    assert times.estimate_run_s(("cifar10", "cnn", "reference")) == 10.0


def test_the_middle_of_the_runs_measured_counts_however_many_were_added_at_once() -> None:
    times = RunTimes()
    times.add(BLOCKING, 1.0)
    times.add(BLOCKING, 5.0, runs=5)
    times.add(BLOCKING, 100.0, runs=3)
    assert times.estimate_run_s(BLOCKING) == 5.0
    assert times.measured == 9


def test_what_is_left_takes_as_long_as_its_runs_and_is_unknown_if_any_of_them_is() -> None:
    times = RunTimes()
    assert times.estimate_left_s({BLOCKING: 1}) is None
    assert times.estimate_left_s({BLOCKING: 0}) == 0.0
    times.add(BLOCKING, 2.0)
    times.add(REFERENCE, 1.0)
    assert times.estimate_left_s({BLOCKING: 3, REFERENCE: 2}) == 8.0
