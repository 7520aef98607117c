from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from ecrl.analysis.frames.events import build_events_frame, build_steps_frame
from ecrl.records.reader import RunRecord
from tests.unit.analysis.campaign_builder import MS, Events, at, final, record, restored, save, span, spec, start, step


def interrupted(**changes: Any) -> RunRecord:
    """A run of 4 steps that fails after step 3 and goes on from step 2; its launcher starts at 500 ms."""
    events: Events = {
        (0, 0): [
            start(600, process_start=550 * MS), restored(0, 900, 950), step(1, 1000, 1100), step(2, 1100, 1200),
            save(2, 1200, 1210, 1230, 1300), step(3, 1300, 1400), at("failure", 1400, index=0, at=3, kind="kill"),
        ],
        (1, 0): [
            start(2000), restored(2, 2100, 2200), step(3, 2300, 2400), step(4, 2400, 2500), final(4, 2501),
            at("end", 2502),
        ],
    }  # fmt: skip
    launcher = [
        span("prepared", 100, 400), at("spawn", 500, pid=1), at("worker_failed", 1500, local_rank=0, exitcode=-9),
        at("exit", 2600, code=0),
    ]  # fmt: skip
    return record(spec(**changes), events, launcher)


def test_events_are_in_order_of_time_in_seconds_since_the_launcher_was_started() -> None:
    frame = build_events_frame(interrupted())
    assert list(frame.columns[:4]) == ["attempt", "rank", "event", "t_s"]
    assert frame["t_s"].is_monotonic_increasing
    stamps = dict(zip(frame["event"], frame["t_s"], strict=True))  # the last of each kind
    assert (stamps["prepared"], stamps["spawn"], stamps["exit"]) == (-0.1, 0.0, 2.1)
    [saved] = frame[frame["event"] == "save"].to_dict("records")
    assert (saved["t0_s"], saved["t_slot_s"], saved["t_staged_s"], saved["t_s"]) == (0.7, 0.71, 0.73, 0.8)
    assert frame["process_start_s"].dropna().tolist() == [0.05]
    assert not {"t", "t0", "t_slot", "t_staged", "process_start", "e"} & set(frame.columns)


def test_the_launchers_events_have_no_rank_and_every_field_is_a_column_of_its_type() -> None:
    frame = build_events_frame(interrupted())
    of_launcher = frame[frame["rank"].isna()]
    assert list(of_launcher["event"]) == ["prepared", "spawn", "worker_failed", "exit"]
    assert of_launcher["attempt"].isna().all()
    dtypes = {name: str(dtype) for name, dtype in frame.dtypes.items()}
    assert dtypes | {
        "attempt": "Int64", "rank": "Int64", "event": "category", "t_s": "float64", "s": "Int64", "loss": "float64",
        "exitcode": "Int64", "kind": "string", "passed_over": "object",
    } == dtypes  # fmt: skip


def test_steps_tell_replay_and_how_long_they_took() -> None:
    frame = build_steps_frame(interrupted())
    assert list(frame.columns) == [
        "step", "rank", "attempt", "begin_s", "duration_s", "loss", "is_replay", "is_executed",
    ]  # fmt: skip
    assert list(frame["step"]) == [1, 2, 3, 3, 4]
    assert list(frame["attempt"]) == [0, 0, 0, 1, 1]
    assert list(frame["is_replay"]) == [False, False, False, True, False]
    assert frame["is_executed"].all()
    assert frame["begin_s"].tolist() == pytest.approx([0.5, 0.6, 0.8, 1.8, 1.9])
    assert frame["duration_s"].tolist() == pytest.approx([0.1] * 5)
    assert frame["loss"].tolist() == [1 / s for s in (1, 2, 3, 3, 4)]


def test_a_loss_that_was_read_later_is_the_steps_loss() -> None:
    found = interrupted()
    found.events[0, 0][2]["loss"] = None
    found.events[0, 0].insert(4, at("loss", 1250, s=1, loss=7.0))
    found.events[0, 0][3]["loss"] = None  # never read
    loss = build_steps_frame(found)["loss"]
    assert loss[0] == 7.0
    assert pd.isna(loss[1])


def test_a_step_that_a_survivor_only_queued_is_not_executed() -> None:
    found = interrupted(device="cuda", train={"nproc": 2})
    found.events[0, 1] = [*found.events[0, 0][:-1], step(4, 1400, 1500)]
    found.events[1, 1] = list(found.events[1, 0])
    frame = build_steps_frame(found)
    queued = frame[~frame["is_executed"]]
    assert queued[["step", "rank", "attempt"]].to_numpy().tolist() == [[4, 1, 0]]
    assert not frame.loc[(frame["step"] == 4) & (frame["attempt"] == 1), "is_replay"].any()


def test_damaged_events_are_left_out_and_a_run_that_just_began_has_frames() -> None:
    found = interrupted()
    del found.events[0, 0][2]["t0"]
    assert list(build_steps_frame(found)["step"]) == [2, 3, 3, 4]
    begun = replace(found, events={}, launcher=[], result=None)
    assert list(build_events_frame(begun).columns) == ["attempt", "rank", "event", "t_s"]
    assert len(build_steps_frame(begun)) == 0
    without_launcher = replace(interrupted(), launcher=[])
    assert build_events_frame(without_launcher)["t_s"].iloc[0] == 0.0
