"""Following growing files."""

from pathlib import Path

from ecrl.launch.runs.file_tail import EventTail, FileTail
from ecrl.records.paths import RunPaths
from ecrl.records.recorder import Recorder


def test_only_whole_lines_are_given_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntw")
    tail = FileTail(path)
    assert tail.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\nthree\n")
    assert tail.lines() == [b"two", b"three"]
    assert tail.lines() == []
    tail.close()


def test_of_many_steps_the_latest_is_parsed_and_nothing_else_is_lost(tmp_path: Path) -> None:
    paths, recorder = RunPaths(tmp_path), Recorder(tmp_path / "events-0-0.jsonl")
    tail = EventTail(paths)
    for step in range(1, 6):
        recorder.event("step", s=step, t0=0, loss=0.5, ids="x")
        if step == 3:
            recorder.event("committed", s=3)
    assert [(e["e"], e["s"]) for _, _, e in tail.read()] == [("committed", 3), ("step", 5)]
    Recorder(paths.events(1, 1)).event("ready")
    recorder.event("end")
    assert [(a, r, e["e"]) for a, r, e in tail.read()] == [(0, 0, "end"), (1, 1, "ready")]
    tail.close()


def test_a_damaged_line_is_no_reason_to_stop_watching(tmp_path: Path) -> None:
    (tmp_path / "events-0-0.jsonl").write_bytes(b'{"e":"ready","t":1}\n\0\0\n{"e":"end","t":2}\n')
    tail = EventTail(RunPaths(tmp_path))
    assert [e["e"] for _, _, e in tail.read()] == ["ready", "damaged", "end"]
    tail.close()
