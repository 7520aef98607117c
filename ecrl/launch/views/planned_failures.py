"""Marks in the logs of a run where planned failures struck, so that nobody takes what follows for a fault."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ecrl.launch.runs.torchrun import parse_failure
from ecrl.records.failure_checks import CHECKPOINT_PHASES, IN_STEP_PHASES, is_ending, phase_of
from ecrl.records.paths import RunPaths
from ecrl.records.reader import Event, read_events

# The first lines of a rank that notices that a peer is gone.
_NOTICES = re.compile(r"Traceback|^\[rank\d+\]|^\[[EWF]\d|terminate called|Error\b")

# torchrun ends the other ranks before it reports the dead one: ranks of its own, and those that it forks.
_ENDS_SURVIVORS = ("Sending process", "Terminating process")


@dataclass(frozen=True)
class Mark:
    """A line about a planned failure. ends: whether it ended the attempt."""

    attempt: int
    text: str
    ends: bool


def read_marks(run: RunPaths) -> list[Mark]:
    """The marks of the failures that have struck so far, in order."""
    try:
        plan = json.loads(run.spec.read_text())["failures"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the run has not started, or its run.json is gone
    warnings: list[str] = []
    found = [
        (event["t"], attempt, rank, event)
        for (attempt, rank), path in run.all_events().items()
        for event in read_events(path, warnings)
        if event["e"] == "failure"
    ]
    found.sort(key=lambda struck: struck[0])
    return [Mark(attempt, _describe(event, rank, plan), is_ending(event)) for _, attempt, rank, event in found]


def mark_launcher_lines(lines: list[str], marks: Iterable[Mark]) -> list[tuple[int, str]]:
    """(index of the line before which it belongs, text) of each mark in the launcher's log."""
    reports = [index for index, line in enumerate(lines) if parse_failure(line) is not None]
    for place in range(len(reports)):
        while reports[place] and any(sign in lines[reports[place] - 1] for sign in _ENDS_SURVIVORS):
            reports[place] -= 1
    return list(zip(reports, (mark.text for mark in marks if mark.ends), strict=False))


def mark_rank_lines(lines: list[str], attempt: int, marks: Iterable[Mark]) -> list[tuple[int, str]]:
    """As `mark_launcher_lines`, for the log of a rank in `attempt`."""
    ended = next((mark.text for mark in marks if mark.ends and mark.attempt == attempt), None)
    notices = next((index for index, line in enumerate(lines) if _NOTICES.search(line)), None)
    return [] if ended is None or notices is None else [(notices, ended)]


def _describe(event: Event, rank: int, plan: list[dict[str, Any]]) -> str:
    planned: dict[str, Any] = next((one for one in plan if one["index"] == event["index"]), {})
    what = "is killed" if event["kind"] == "kill" else f"meets {event['kind']}"
    follows = "; what follows is torch noticing" if is_ending(event) else ""
    number = f"planned failure {event['index'] + 1} of {len(plan)}"
    return f"--- {number}: {_describe_victims(planned, rank)} {what} {_describe_place(event)}{follows} ---"


def _describe_victims(planned: dict[str, Any], rank: int) -> str:
    ranks = planned.get("ranks")
    if ranks == "all":
        return "every rank"
    return f"rank {', '.join(map(str, sorted({rank, *ranks})))}" if ranks else f"rank {rank}"


def _describe_place(event: Event) -> str:
    phase, at = phase_of(event), event["at"]
    if phase in IN_STEP_PHASES:
        return f"in step {at} ({phase})"
    if phase in CHECKPOINT_PHASES:
        return f"in the {phase} of checkpoint {at}"
    return {"restore": f"while it restores step {at}", "init": "before it is ready"}.get(phase, f"after step {at}")
