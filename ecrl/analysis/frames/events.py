"""One run's events and steps as frames. Times are seconds since the start of the run's launcher."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ecrl.analysis.frames.columns import CATEGORY, COUNT, NUMBER, TRUTH, build_frame
from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.step_history import build_step_history
from ecrl.analysis.run.timeline import NS_PER_S
from ecrl.records.reader import Event, RunRecord

# Fields that hold stamps of `records.clock`. The names of their columns end in _s.
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
    """The run's valid events in order of time.

    Columns: attempt and rank (both missing for events of the launcher), event, t_s, and every field that any event has,
    named as in `ecrl.records.events`. Stamps are converted to seconds; the names of their columns end in _s.
    """
    record = drop_invalid_events(record)
    begin = _find_begin(record)
    rows = sorted(_list_events(record, begin), key=lambda row: float(row["t_s"]))
    fields = dict.fromkeys(field for row in rows for field in row)
    first = ("attempt", "rank", "event", "t_s")
    return build_frame(rows, (*first, *(field for field in fields if field not in first)), _EVENT_DTYPES)


def build_steps_frame(record: RunRecord) -> pd.DataFrame:
    """One row per step that a rank recorded, by attempt, step and rank.

    is_replay: whether an earlier attempt had executed the step. is_executed: false if the rank only queued the step on
    an accelerator and another rank's failure came first. loss: missing if it was not read or is not a number.
    """
    record = drop_invalid_events(record)
    begin, executed = _find_begin(record), build_step_history(record).executed
    read_later = {(attempt, rank, e["s"]): e["loss"] for attempt, rank, e in record.get_events("loss")}
    highest, before = 0, dict[int, int]()  # before: attempt -> the highest step of all earlier attempts
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
    """The stamp at which wall-clock begins: the launcher's start, or the first of all stamps if it was not recorded."""
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
