"""One run's events and steps as frames. Times are seconds since the run's launcher was started."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ecrl.analysis.frames.columns import CATEGORY, COUNT, NUMBER, TRUTH, build_frame
from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.step_history import build_step_history
from ecrl.analysis.run.timeline import NS_PER_S
from ecrl.records.reader import Event, RunRecord

# Fields that are stamps of `records.clock`; as columns they end in _s.
_STAMPS = ("t", "t0", "t_slot", "t_staged", "process_start")
_STAMP_COLUMNS = {stamp: f"{stamp}_s" for stamp in _STAMPS}
_EVENT_DTYPES = {"attempt": COUNT, "rank": COUNT, "event": CATEGORY, **dict.fromkeys(_STAMP_COLUMNS.values(), NUMBER)}
_STEP_DTYPES = {
    "step": COUNT,
    "rank": COUNT,
    "attempt": COUNT,
    "begin_s": NUMBER,
    "duration_s": NUMBER,
    "loss": NUMBER,
    "is_replay": TRUTH,
    "is_executed": TRUTH,
}


def build_events_frame(record: RunRecord) -> pd.DataFrame:
    """Every sound event in order of time: attempt, rank (both missing: the launcher's), event, t_s, and a column for
    every field that any of them has, named as in `ecrl.records.events`; stamps are seconds and end in _s."""
    record = drop_invalid_events(record)
    begin = _find_begin(record)
    rows = sorted(_list_events(record, begin), key=lambda row: float(row["t_s"]))
    fields = dict.fromkeys(field for row in rows for field in row)
    first = ("attempt", "rank", "event", "t_s")
    return build_frame(rows, (*first, *(field for field in fields if field not in first)), _EVENT_DTYPES)


def build_steps_frame(record: RunRecord) -> pd.DataFrame:
    """One row per step that a rank recorded, by attempt, step and rank.

    is_replay: an earlier attempt had executed the step. is_executed: False where a rank only queued it on an
    accelerator and the failure of another came first. loss: missing where it was not read, and where it is no number.
    """
    record = drop_invalid_events(record)
    begin, executed = _find_begin(record), build_step_history(record).executed
    read_later = {(attempt, rank, e["s"]): e["loss"] for attempt, rank, e in record.get_events("loss")}
    highest, before = 0, dict[int, int]()  # the highest step that attempts before this one executed
    for attempt, steps in sorted(executed.items()):
        before[attempt] = highest
        highest = max(highest, max(steps, default=0))
    rows = [
        {
            "step": event["s"],
            "rank": rank,
            "attempt": attempt,
            "begin_s": _seconds(event["t0"], begin),
            "duration_s": _seconds(event["t"], event["t0"]),
            "loss": read_later.get((attempt, rank, event["s"]), event["loss"]),
            "is_replay": event["s"] <= before[attempt],
            "is_executed": event["s"] in executed[attempt],
        }
        for attempt, rank, event in record.get_events("step")
    ]
    rows.sort(key=lambda row: (row["attempt"], row["step"], row["rank"]))
    return build_frame(rows, tuple(_STEP_DTYPES), _STEP_DTYPES)


def _find_begin(record: RunRecord) -> int:
    """The stamp at which wall-clock begins: the launcher's start; the first of all where that was not recorded."""
    spawned = [event["t"] for event in record.launcher if event["e"] == "spawn"]
    events = (event for own in (*record.events.values(), record.launcher) for event in own)
    stamps = (event[name] for event in events for name in ("t0", "t") if isinstance(event.get(name), int))
    return spawned[-1] if spawned else min(stamps, default=0)


def _list_events(record: RunRecord, begin: int) -> Iterator[dict[str, Any]]:
    for (attempt, rank), events in sorted(record.events.items()):
        yield from (_convert_event(event, begin) | {"attempt": attempt, "rank": rank} for event in events)
    yield from (_convert_event(event, begin) for event in record.launcher)


def _convert_event(event: Event, begin: int) -> dict[str, Any]:
    stamps = {_STAMP_COLUMNS[s]: _seconds(event[s], begin) for s in _STAMPS if isinstance(event.get(s), int)}
    return {"event": event["e"], **stamps, **{k: v for k, v in event.items() if k != "e" and k not in _STAMPS}}


def _seconds(stamp: int, begin: int) -> float:
    return (stamp - begin) / NS_PER_S
