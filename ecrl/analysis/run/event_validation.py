"""Validation of events: each kind must have its fields, and its stamps must be in order."""

from collections.abc import Iterator
from typing import Any

from ecrl.records.reader import Event, RunRecord

# kind -> fields that must be whole numbers; and kind -> fields that must be present (see ecrl/records/events.py)
_WHOLE: dict[str, tuple[str, ...]] = {
    "start": (),
    "ready": (),
    "restored": ("t0", "step"),
    "step": ("s", "t0"),
    "loss": ("s",),
    "save": ("s", "t0", "t_slot", "t_staged"),
    "fence": ("t0",),
    "persisted": ("s", "t0"),
    "committed": ("s",),
    "rerouted": ("s",),
    "persist_failed": ("s",),
    "drain": ("t0",),
    "failure": ("index", "at"),
    "final": ("s",),
}
_PRESENT: dict[str, tuple[str, ...]] = {
    "restored": ("digest_recorded", "digest_live"),
    "step": ("loss",),
    "loss": ("loss",),
    "rerouted": ("reason", "to"),
    "failure": ("kind",),
    "final": ("digest", "params_digest"),
    "remove_failed": ("s", "reason"),
}
_SAVE_STAMPS = ("t0", "t_slot", "t_staged", "t")


def drop_invalid_events(record: RunRecord) -> RunRecord:
    """The record without its invalid events. `warnings` names each dropped event and other oddities of the events."""
    warnings = list(record.warnings)
    events = {
        (attempt, rank): _keep_valid_events(found, f"events-{attempt}-{rank}.jsonl", warnings)
        for (attempt, rank), found in record.events.items()
    }
    ranks = {attempt: {r for a, r in events if a == attempt} for attempt in record.attempts}
    by_rank = {rank: max(a for a, r in events if r == rank) for _, rank in events}
    if len(set(by_rank.values())) > 1:
        counts = ", ".join(f"rank {rank}: {count}" for rank, count in sorted(by_rank.items()))
        warnings.append(f"ranks disagree on restarts ({counts})")
    for attempt, found in sorted(ranks.items()):
        steps = {e["step"] for rank in found for e in events[attempt, rank] if e["e"] == "restored"}
        if len(steps) > 1:
            warnings.append(f"attempt {attempt}: ranks restored different steps {sorted(steps)}")
    warnings += dict.fromkeys(_describe_mishaps(events))  # all ranks report the same checkpoints
    return RunRecord(record.spec, record.result, events, record.launcher, warnings)


def _describe_mishaps(events: dict[tuple[int, int], list[Event]]) -> Iterator[str]:
    """Texts on checkpoints that were passed over, absent, rerouted, not persisted or not removed, and on skipped steps.

    None of these is an error in the run.
    """
    lost: dict[tuple[int, int], str] = {}  # (attempt, step) -> reason, over all ranks
    rerouted: dict[tuple[int, int], str] = {}
    skipped: dict[int, bool] = {}  # step -> whether its last execution was
    for (attempt, _), found in sorted(events.items()):
        for event in found:
            if event["e"] == "restored":
                for passed in event.get("passed_over") or ():
                    yield f"attempt {attempt}: checkpoint {passed['step']} was passed over: {passed['reason']}"
                if attempt and not event["step"]:
                    yield f"attempt {attempt}: there was no checkpoint to restore, and it began again at step 0"
            elif event["e"] == "step":
                skipped[event["s"]] = event.get("skipped", False)
            elif event["e"] == "persist_failed":
                lost.setdefault((attempt, event["s"]), event.get("reason", "no reason recorded"))
            elif event["e"] == "rerouted":
                rerouted.setdefault((attempt, event["s"]), f"{event['to']} ({event['reason']})")
            elif event["e"] == "remove_failed":
                yield f"attempt {attempt}: checkpoint {event['s']} could not be removed: {event['reason']}"
    if any(skipped.values()):
        first = min(step for step, is_skipped in skipped.items() if is_skipped)
        yield (
            f"{sum(skipped.values())} of {len(skipped)} steps changed no weight: their gradients overflowed in fp16,"
            f" first at step {first}"
        )
    for fates, what in ((lost, "could not be kept:"), (rerouted, "was written elsewhere:")):
        for (attempt, step), reason in [*fates.items()][:1]:
            more = f"; and {len(fates) - 1} more" if len(fates) > 1 else ""
            yield f"attempt {attempt}: checkpoint {step} {what} {reason}{more}"


def _keep_valid_events(events: list[Event], name: str, warnings: list[str]) -> list[Event]:
    kept = []
    for event in events:
        if (fault := _fault(event)) is None:
            kept.append(event)
        else:
            warnings.append(f"{name}: a {event['e']!r} event was dropped: {fault}")
    return kept


def _fault(event: Event) -> str | None:
    kind = event["e"]
    for field in _WHOLE.get(kind, ()):
        if not isinstance(event.get(field), int):
            return f"{field} is {event.get(field)!r}, expected a whole number"
    for field in _PRESENT.get(kind, ()):
        if field not in event:
            return f"{field} is missing"
    if kind == "restored" and not all(_is_passed_over_entry(entry) for entry in event.get("passed_over") or ()):
        return "passed_over is no list of steps and reasons"
    if kind in ("step", "loss") and not isinstance(event["loss"], int | float | None):
        return f"loss is {event['loss']!r}, expected a number"
    if kind == "save":
        stamps = [event[field] for field in _SAVE_STAMPS]
        return None if stamps == sorted(stamps) else "it ends before it begins"
    return "it ends before it begins" if event.get("t0", event["t"]) > event["t"] else None


def _is_passed_over_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and {"step", "reason"} <= entry.keys()
