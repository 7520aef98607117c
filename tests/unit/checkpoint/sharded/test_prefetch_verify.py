"""Verification ahead of the restore: the newest checkpoint in the background, every verdict as if it were not."""

from pathlib import Path

import pytest

from ecrl.checkpoint.sharded.prefetch_verify import PrefetchedVerification
from ecrl.records.reader import read_events
from ecrl.records.recorder import Recorder
from ecrl.storage import commit


def checkpoint(root: Path, step: int) -> Path:
    folder = commit.step_folder(root, step)
    folder.mkdir(parents=True)
    (folder / "rank-0.json").write_bytes(b"state of %d" % step)
    (folder / "shard-0.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    files = {path.name: commit.file_facts(path) for path in folder.iterdir()}
    commit.commit(folder, run="run", step=step, world_size=1, files=files)
    return folder


def ahead(root: Path, events: Path) -> PrefetchedVerification:
    return PrefetchedVerification([root], run="run", world_size=1, recorder=Recorder(events))


def test_only_the_newest_is_read_ahead_and_all_are_judged(tmp_path: Path) -> None:
    root, events = tmp_path / "checkpoints", tmp_path / "events.jsonl"
    for step in (10, 20):
        checkpoint(root, step)
    (checkpoint(root, 30) / "rank-0.json").write_bytes(b"state of 31")
    verify = ahead(root, events)
    assert verify(root, 30).state == "corrupt"
    (commit.step_folder(root, 10) / "rank-0.json").unlink()
    assert [verify(root, step).state for step in (10, 20)] == ["corrupt", "valid"]
    (record,) = read_events(events, [])
    assert (record["e"], record["s"], record["state"]) == ("verified", 30, "corrupt")
    assert record["t0"] <= record["t"]


def test_without_a_committed_checkpoint_nothing_is_begun(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-00000010").mkdir(parents=True)
    verify = ahead(tmp_path / "checkpoints", tmp_path / "events.jsonl")
    assert verify(tmp_path / "checkpoints", 10).state == "partial"
    assert read_events(tmp_path / "events.jsonl", []) == []


def test_what_goes_wrong_in_the_background_reaches_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint(tmp_path, 10)

    def broken(*_: object, **__: object) -> commit.Verdict:
        raise MemoryError("no memory to read with")

    monkeypatch.setattr(commit, "verify", broken)
    with pytest.raises(MemoryError, match="no memory"):
        ahead(tmp_path, tmp_path / "events.jsonl")(tmp_path, 10)


def test_a_record_that_cannot_be_written_is_told_and_not_waited_for(tmp_path: Path) -> None:
    checkpoint(tmp_path, 10)
    verify = PrefetchedVerification([tmp_path], run="run", world_size=1, recorder=Recorder(Path("/dev/full")))
    with pytest.raises(OSError, match="No space left"):
        verify(tmp_path, 10)


def test_the_newest_of_all_places_is_read_ahead(tmp_path: Path) -> None:
    first, second, events = tmp_path / "a", tmp_path / "b", tmp_path / "events.jsonl"
    checkpoint(first, 10)
    checkpoint(second, 20)
    verify = PrefetchedVerification([first, second], run="run", world_size=1, recorder=Recorder(events))
    assert (verify(first, 10).state, verify(second, 20).state) == ("valid", "valid")
    assert [event["s"] for event in read_events(events, [])] == [20]
