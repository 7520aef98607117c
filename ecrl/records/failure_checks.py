"""The keys of a planned failure, and checks that each failure struck at its place. Pure functions of records.

The keys of a planned failure in `run.json` (an absent key has the value in brackets):

    index    the failure's place in the plan. It is armed after every failure before it that ends an attempt has struck,
             and strikes once
    kind     the kind of failure
    rank     the rank that strikes
    ranks    [absent] "all" or a list: the ranks that are struck together with `rank`
    phase    ["step"] when it strikes. step: right after step `at`. loss, gradients, update: inside step `at`, once the
             loss, the gradients or the update exists. staging, persist, commit, retention: during that phase of the
             checkpoint of step `at`. restore, init: in the attempt after the previous failure
    at       the step; for restore and init, the step of the previous failure
    after_s  [absent] replaces `at`: the failure strikes at the end of the first step that ends at least this many
             seconds after the run's first step began
    ends_attempt  [true] whether the worker group must restart after it; `failure` events have the same key
    options  [{}] the options of its kind that differ from their legacy values
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ecrl.records.reader import Event, RunRecord

IN_STEP_PHASES = ("loss", "gradients", "update")
CHECKPOINT_PHASES = ("staging", "persist", "commit", "retention")
RESTART_PHASES = ("restore", "init")
PHASES = ("step", *IN_STEP_PHASES, *CHECKPOINT_PHASES, *RESTART_PHASES)
# A killed process writes nothing after the signal, but a busy machine may delay the victim in sending the signal.
_GROUP_GRACE_NS = 1_000_000_000

_STEP_BEGINS = ("step", "restored")  # events after which a rank starts the next step

Planned = Mapping[str, Any]


def phase_of(planned: Planned) -> str:
    """The phase of a planned failure, or of a `failure` event."""
    return str(planned.get("phase", "step"))


def is_ending(planned: Planned) -> bool:
    """Whether a planned failure, or a `failure` event, ends its attempt."""
    return bool(planned.get("ends_attempt", True))


def count_expected_restarts(plan: Iterable[Planned]) -> int:
    """How often the worker group restarts if each of these planned failures, or `failure` events, strikes once."""
    return sum(map(is_ending, plan))


def get_ending_failures(record: RunRecord) -> list[tuple[int, int, Event]]:
    """The `failure` events that ended their attempts, as (attempt, rank, event)."""
    return [found for found in record.get_events("failure") if is_ending(found[2])]


def format_failure_step(planned: Planned) -> int | str:
    """The place of a planned failure as tables show it: 400, '900@persist' or '412.5s'.

    For a failure that does not end its attempt, it is the step and the kind: '300@nan-loss'.
    """
    if (after_s := planned.get("after_s")) is not None:
        return f"{after_s:g}s"
    at: int = planned["at"]
    if not is_ending(planned):
        return f"{at}@{planned['kind']}"
    return at if phase_of(planned) == "step" else f"{at}@{phase_of(planned)}"


def find_failures_after_end(record: RunRecord) -> list[int]:
    """The indices of failures planned for an instant after the end of the run. Such a failure is no fault."""
    struck = {event["index"] for _, _, event in record.get_events("failure")}
    if all(planned.get("after_s") is None for planned in record.spec["failures"]):
        return []
    begun = _first_steps_ns(record)
    beyond = []
    for planned in record.spec["failures"]:
        if planned["index"] in struck or planned.get("after_s") is None or not begun:
            continue
        ends = [e["t"] for _, rank, e in record.get_events("step") if rank == planned["rank"]]
        # `max`: the victim may count from its own first step, which may be slightly later than another rank's.
        if max(ends, default=0) < max(begun) + _ns(planned["after_s"]):
            beyond.append(planned["index"])
    return beyond


def find_faults(record: RunRecord) -> list[str]:
    """One sentence for every failure that struck at another place than planned, none for failures that never struck."""
    plan = {planned["index"]: planned for planned in record.spec["failures"]}
    found = []
    attempts: dict[int, int] = {}
    for attempt, rank, event in record.get_events("failure"):
        attempts[event["index"]] = attempt
        if (planned := plan.get(event["index"])) is None:
            continue  # C1 compares the indices
        fault = _find_misplacement(record, planned, attempt, rank, event)
        if fault is None and phase_of(planned) in RESTART_PHASES and attempts.get(event["index"] - 1) != attempt - 1:
            fault = "not in the attempt after the failure before it"
        if fault is not None:
            found.append(f"failure {event['index']} ({format_failure_step(planned)}, rank {planned['rank']}): {fault}")
    return found


def _find_misplacement(record: RunRecord, planned: Planned, attempt: int, rank: int, event: Event) -> str | None:
    if rank != planned["rank"]:
        return f"struck rank {rank}"
    phase = phase_of(planned)
    if phase_of(event) != phase:
        return f"struck in {phase_of(event)}"
    if phase not in RESTART_PHASES and planned.get("after_s") is None and event["at"] != planned["at"]:
        return f"struck at step {event['at']}"
    own = record.events[attempt, rank]
    before = own[: own.index(event)]
    if planned.get("after_s") is not None:
        fault = _check_instant(record, planned, before)
    elif phase == "step":
        fault = _check_after_step(before, planned["at"])
    elif phase in IN_STEP_PHASES:
        fault = _check_in_step(before, planned["at"])
    elif phase in CHECKPOINT_PHASES:
        fault = _check_in_checkpoint(record, attempt, before, event, phase)
    else:
        fault = _check_in_restart(before, phase)
    meant = planned.get("ranks", []) if is_ending(planned) else []
    return fault or _check_survivors(record, attempt, event, meant)


def _check_after_step(before: Sequence[Event], at: int) -> str | None:
    last = next((e.get("s") for e in reversed(before) if e["e"] == "step"), None)
    return None if last == at else f"the victim's last step was {last}"


def _check_in_step(before: Sequence[Event], at: int) -> str | None:
    begun = ((e.get("s") if e["e"] == "step" else e.get("step")) for e in reversed(before) if e["e"] in _STEP_BEGINS)
    last = next(begun, None)
    return None if last == at - 1 else f"the victim's last step was {last}"


def _check_instant(record: RunRecord, planned: Planned, before: Sequence[Event]) -> str | None:
    ends = [e["t"] for e in before if e["e"] == "step"]
    begun, after = _first_steps_ns(record), _ns(planned["after_s"])
    if not ends or not begun or ends[-1] < min(begun) + after:
        return "struck before its instant"
    if len(ends) > 1 and ends[-2] >= max(begun) + after:
        return "struck a step too late"
    return None


def _check_in_checkpoint(
    record: RunRecord, attempt: int, before: Sequence[Event], event: Event, phase: str
) -> str | None:
    at = event["at"]
    seen = {e["e"] for e in before if e.get("s") == at}
    if "step" not in seen:
        return f"step {at} was not completed"
    over = {"staging": {"staged", "persisted", "committed"}, "persist": {"persisted", "committed"}}
    over["commit"] = {"committed"}
    if early := sorted(seen & over.get(phase, set())):
        return f"checkpoint {at} was {early[-1]} already"
    if phase == "commit":
        found = record.get_events("persisted")
        ranks = {r for a, r, e in found if a == attempt and e.get("s") == at and e["t"] <= event["t"]}
        # If an engine's library persists and commits in one call, neither is recorded before the call returns.
        if 0 < len(ranks) < record.spec["train"]["nproc"]:
            return f"only {len(ranks)} ranks had persisted checkpoint {at}"
    if phase == "retention":
        if "committed" not in seen:
            return f"checkpoint {at} was not committed yet"
        committed = next(place for place, e in enumerate(before) if e["e"] == "committed" and e.get("s") == at)
        if any(e["e"] == "removed" for e in before[committed:]):
            return "the old checkpoint was removed already"
    return None


def _check_in_restart(before: Sequence[Event], phase: str) -> str | None:
    seen = {e["e"] for e in before}
    if phase == "init":
        return "the victim was ready already" if "ready" in seen else None
    if "ready" not in seen:
        return "the victim was not ready to load"
    return "the victim had restored already" if "restored" in seen else None


def _check_survivors(record: RunRecord, attempt: int, event: Event, meant: str | list[int]) -> str | None:
    late = [
        rank
        for (a, rank), events in record.events.items()
        if a == attempt
        and (meant == "all" or rank in meant)
        and any(e["t"] > event["t"] + _GROUP_GRACE_NS for e in events)
    ]
    return f"rank {late[0]} lived on" if late else None


def _first_steps_ns(record: RunRecord) -> list[int]:
    """The stamps at which the ranks began their first step of the run."""
    ranks = [events for (attempt, _), events in record.events.items() if attempt == 0]
    firsts = (next((e.get("t0") for e in events if e["e"] == "step"), None) for events in ranks)
    return [t for t in firsts if isinstance(t, int)]


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
