"""Reading records back: whole ones, torn ones, and results that count."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.records import clock
from ecrl.records.paths import RunPaths
from ecrl.records.reader import parse_events, read_events, read_result, read_run
from ecrl.records.recorder import Recorder
from tests.errors import raises

RESULT: dict[str, Any] = {"schema": 1, "run_hash": "h", "outcome": "completed", "gates": dict.fromkeys("abc")}
RESULT["gates"] = dict.fromkeys(("C1", "C2", "C3", "C5"))


def test_what_is_recorded_is_read_with_its_stamp(tmp_path: Path) -> None:
    path, warnings = tmp_path / "events-0-0.jsonl", list[str]()
    recorder, before = Recorder(path), clock.now_ns()
    recorder.event("step", s=3, loss=None)
    recorder.event("failure", t=5, index=0)
    recorder.close()
    step, failure = read_events(path, warnings)
    assert (step["e"], step["s"], step["loss"], failure["t"]) == ("step", 3, None, 5)
    assert before <= step["t"] <= clock.now_ns()
    assert warnings == []


def test_a_file_cut_anywhere_keeps_its_whole_events_and_warns_of_the_rest() -> None:
    data = b'{"e":"ready","t":1}\n{"e":"end","t":2}\n'
    for cut in range(len(data) + 1):
        warnings: list[str] = []
        events = parse_events(data[:cut], "x", warnings)
        whole = data[:cut].count(b"}")  # a line that lacks only its newline is whole
        assert len(events) == whole
        assert bool(warnings) == (len(data[:cut].splitlines()) > whole)


@pytest.mark.parametrize("line", [b"[]", b'"x"', b'{"t":1}', b'{"e":"x"}', b'{"e":1,"t":1}', b'{"e":"x","t":"1"}'])
def test_what_is_no_event_is_dropped_by_line_number(line: bytes) -> None:
    warnings: list[str] = []
    assert parse_events(b'{"e":"a","t":1}\n' + line + b"\n", "x", warnings) == [{"e": "a", "t": 1}]
    (warning,) = warnings
    assert warning.startswith("x: line 2 ")


@pytest.mark.parametrize(
    "change",
    [{"run_hash": "other"}, {"schema": 2}, {"outcome": "running"}, {"gates": {"C1": None}}],
)
def test_only_a_result_of_this_very_run_with_its_gates_counts(tmp_path: Path, change: dict[str, Any]) -> None:
    paths = RunPaths(tmp_path)
    assert read_result(paths, "h") is None
    paths.result.write_text(json.dumps(RESULT))
    assert read_result(paths, "h") is not None
    paths.result.write_text(json.dumps(RESULT | change))
    assert read_result(paths, "h") is None
    paths.result.write_text("{")
    assert read_result(paths, "h") is None


def test_missing_ranks_are_named_and_a_missing_spec_is_an_error(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    with raises("ECRL-403", str(paths.spec)):
        read_run(paths)
    paths.spec.write_text(json.dumps({"run_hash": "h", "train": {"nproc": 2}}))
    Recorder(paths.events(0, 0)).event("start")
    record = read_run(paths)
    assert "events-0-1.jsonl: missing" in record.warnings
    assert "events-launcher.jsonl: missing" in record.warnings
    assert record.attempts == [0]


def test_the_clock_is_shared_by_processes_and_maps_to_wall_time() -> None:
    import subprocess
    import sys
    import time

    before = clock.now_ns()
    out = subprocess.check_output([sys.executable, "-c", "from ecrl.records import clock; print(clock.now_ns())"])
    assert before < int(out) < clock.now_ns()
    assert (clock.now_ns() + clock.real_minus_boot_ns()) / 1e9 == pytest.approx(time.time(), abs=1)
