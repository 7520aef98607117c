"""A worker records its start before anything heavy, and refuses to follow a crash that nobody planned."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecrl.records.paths import RunPaths
from ecrl.records.reader import Event, read_events
from ecrl.records.recorder import Recorder
from ecrl.worker import __main__ as worker

PLACE = {
    "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
}  # fmt: skip


def start(folder: Path, attempt: int, monkeypatch: pytest.MonkeyPatch) -> int:
    for key, value in (PLACE | {"TORCHELASTIC_RESTART_COUNT": str(attempt)}).items():
        monkeypatch.setenv(key, value)
    return worker.main(folder)


def events(folder: Path, attempt: int) -> list[Event]:
    return read_events(RunPaths(folder).events(attempt, 1), [])


def test_an_attempt_after_an_unplanned_crash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Recorder(RunPaths(tmp_path).events(0, 0)).event("failure", index=0, at=3, kind="kill")
    assert start(tmp_path, 2, monkeypatch) == worker.EXIT_REFUSED
    first, second = events(tmp_path, 2)
    assert (first["e"], first["rank"], first["world_size"]) == ("start", 1, 2)
    assert first["process_start"] < first["t"]
    assert second["e"] == "refused"
    assert "attempt 2 follows 1 planned failures" in second["reason"]
    assert "died unplanned" in capsys.readouterr().err


def test_a_failure_that_ended_no_attempt_explains_no_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(RunPaths(tmp_path).events(0, 0))
    recorder.event("failure", index=0, at=3, kind="scale", phase="loss", ends_attempt=False)
    assert start(tmp_path, 1, monkeypatch) == worker.EXIT_REFUSED
    recorder.event("failure", index=1, at=5, kind="kill", phase="step")
    with pytest.raises(Exception, match=r"run\.json"):  # it is let through, and finds nothing that it should do
        start(tmp_path, 1, monkeypatch)


def test_an_exception_is_recorded_with_its_trace_and_not_swallowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match=r"run\.json"):
        start(tmp_path, 0, monkeypatch)
    error = events(tmp_path, 0)[-1]
    assert (error["e"], error["type"]) == ("error", "RecordError")
    assert "run.json" in error["message"]
    assert "Traceback" in error["trace"]


def test_nothing_heavy_is_imported_before_the_first_record() -> None:
    code = "import sys, json, ecrl.worker.__main__; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "numpy", "pydantic", "pandas", "psutil"} & set(loaded)
