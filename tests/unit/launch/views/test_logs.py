"""Logs of a suite's runs: their files, their lines as they come, and marks where planned failures struck."""

import json
from typing import Any

import pytest

from ecrl.launch.system.process_identity import get_current_owner
from ecrl.launch.views.logs import LogFollower, choose_run, find_log_files, read_last_lines, read_marked_lines
from ecrl.launch.views.planned_failures import read_marks
from ecrl.launch.views.suite_view import inspect_suite
from ecrl.records.manifest.store import Manifest
from ecrl.records.paths import CampaignPaths
from ecrl.records.recorder import Recorder
from tests.errors import raises
from tests.unit.launch.views.campaigns import rank_log, under_way


def test_logs_are_the_launchers_and_every_ranks(paths: CampaignPaths) -> None:
    run = under_way(paths)
    run.torchrun_log.write_text("from the launcher\n")
    rank_log(run, 1, 0, "a\nb\nc\n")
    rank_log(run, 0, 1, "x\n")
    assert [log.label for log in find_log_files(run)] == ["launcher", "rank1.0 stderr", "rank0.1 stderr"]
    assert [log.label for log in find_log_files(run, rank=0)] == ["rank0.1 stderr"]
    assert read_last_lines(find_log_files(run)[2].path, 2) == ["b", "c"]
    suite = inspect_suite(paths.results, None, "early")
    assert choose_run(suite, None, None).variant == "blocking"
    with raises("ECRL-102", "--variant: ", "'blockng'", "'blocking'"):
        choose_run(suite, "blockng", None)
    with raises("ECRL-324", suite.row.suite_id, "ecrl logs -f"):
        choose_run(suite, "overlapped", None)


def test_following_shows_what_is_new_and_ends_with_the_suite(paths: CampaignPaths) -> None:
    run = under_way(paths)
    run.torchrun_log.write_text("one\ntwo\n")
    follower = LogFollower(paths.results, paths.prefix, run.folder.parent.parent.name, None, 1)
    assert [line.text for line in follower.poll()] == ["two"]
    with run.torchrun_log.open("a") as log:
        log.write("three\nfou")
    assert [line.text for line in follower.poll()] == ["three"]
    assert not follower.over
    written = Manifest.open(paths)
    written.record(run.folder.parent.parent.name, status="completed", owner=None)
    written.close()
    with run.torchrun_log.open("a") as log:
        log.write("r\n")
    assert [line.text for line in follower.poll()] == ["four"]
    assert follower.over.endswith("completed")
    follower.close()


KILLED = "--- planned failure 1 of 1: rank 1 is killed after step 3; what follows is torch noticing ---"


def test_a_planned_failure_is_marked_before_what_it_caused(paths: CampaignPaths) -> None:
    run = under_way(paths)
    report = "E1121 23:30:12.123000 1 api.py:1002] failed (exitcode: -9) local_rank: 1 (pid: 42) of binary: x"
    ends = "W1121 23:30:12.100000 1 api.py:1028] Sending process 43 closing signal SIGTERM"
    run.torchrun_log.write_text(f"W an early line\n{ends}\n{report}\nafter it\n")
    rank_log(run, 0, 0, "a warning\nTraceback (most recent call last):\n1\n2\nRuntimeError: reset by peer\n")
    rank_log(run, 1, 0, "a warning\n")
    recorder = Recorder(run.events(0, 1))
    assert read_marks(run) == []
    recorder.event("failure", index=0, at=3, kind="kill", phase="step")
    launcher, first, second = find_log_files(run)
    assert read_marked_lines(launcher, 40, read_marks(run)) == ["W an early line", KILLED, ends, report, "after it"]
    assert read_marked_lines(first, 40, read_marks(run))[:3] == [
        "a warning",
        KILLED,
        "Traceback (most recent call last):",
    ]
    assert read_marked_lines(first, 2, read_marks(run)) == [KILLED, "2", "RuntimeError: reset by peer"]
    assert read_marked_lines(second, 40, read_marks(run)) == ["a warning"]
    assert read_marked_lines(first, 0, read_marks(run)) == []


def test_every_planned_failure_of_a_log_is_marked_before_what_it_caused(paths: CampaignPaths) -> None:
    run = under_way(paths)
    plan = [{"index": index, "kind": "kill", "rank": 1, "at": 3 + index} for index in range(2)]
    run.spec.write_text(run.spec.read_text().replace(json.dumps([plan[0]]), json.dumps(plan)))
    report = "E1121 23:30:12.123000 1 api.py:836] failed (exitcode: -9) local_rank: 1 (pid: 42) of fn: run_rank"
    ends = "W1121 23:30:12.100000 1 spawn.py:165] Terminating process 43 via signal SIGTERM"
    run.torchrun_log.write_text(f"{ends}\n{report}\nTraceback\n" * 2)
    for index in range(2):
        recorder = Recorder(run.events(index, 1))
        recorder.event("failure", index=index, at=3 + index, kind="kill", phase="step")
    marks = read_marks(run)
    [launcher] = find_log_files(run)
    first, second = (mark.text for mark in marks)
    assert read_marked_lines(launcher, 40, marks) == [
        first,
        ends,
        report,
        "Traceback",
        second,
        ends,
        report,
        "Traceback",
    ]
    assert read_marked_lines(launcher, 2, marks) == [first, second, report, "Traceback"]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"phase": "persist"}, "rank 1 is killed in the persist of checkpoint 3; what"),
        ({"phase": "restore"}, "rank 1 is killed while it restores step 3; what"),
        ({"phase": "init", "at": 0}, "rank 1 is killed before it is ready; what"),
        ({"phase": "loss", "kind": "nan", "ends_attempt": False}, "rank 1 meets nan in step 3 (loss) ---"),
    ],
)
def test_a_mark_names_the_place_of_the_failure(paths: CampaignPaths, event: dict[str, Any], told: str) -> None:
    run = under_way(paths)
    fields: dict[str, Any] = {"index": 0, "at": 3, "kind": "kill"} | event
    Recorder(run.events(0, 1)).event("failure", **fields)
    [mark] = read_marks(run)
    assert told in mark.text


def test_following_shows_a_planned_failure_once_before_what_it_caused(paths: CampaignPaths) -> None:
    run = under_way(paths)
    run.torchrun_log.write_text("one\n")
    follower = LogFollower(paths.results, paths.prefix, run.folder.parent.parent.name, None, 9)
    assert [line.text for line in follower.poll()] == ["one"]
    Recorder(run.events(0, 1)).event("failure", index=0, at=3, kind="kill")
    with run.torchrun_log.open("a") as log:
        log.write("torch notices\n")
    found = list(follower.poll())
    assert [(line.log.label, line.text) for line in found] == [("ecrl", KILLED), ("launcher", "torch notices")]
    assert list(follower.poll()) == []
    follower.close()


def test_following_waits_for_a_suite_that_was_interrupted_before_and_ends_with_one_that_is_now(
    paths: CampaignPaths,
) -> None:
    suite_id = under_way(paths, alive=False).folder.parent.parent.name
    follower = LogFollower(paths.results, paths.prefix, suite_id, None, 9)
    statuses = [("interrupted", None), ("running", get_current_owner()), ("interrupted", None)]
    assert list(follower.poll()) == []
    assert ("its ecrl is gone" in follower.waits, follower.over) == (True, "")
    for (status, owner), waits, over in zip(statuses, (True, False, False), (False, False, True), strict=True):
        written = Manifest.open(paths)
        written.record(suite_id, status=status, owner=owner)
        written.close()
        list(follower.poll())
        assert (bool(follower.waits), bool(follower.over)) == (waits, over)
    follower.close()
