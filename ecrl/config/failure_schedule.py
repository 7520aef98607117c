"""Failure schedules: builds the plan of a schedule before launch, and finds schedules that cannot be run."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ecrl.config.failure_entry import FailureEntry, draw_instants_s
from ecrl.records.failure_checks import CHECKPOINT_PHASES, RESTART_PHASES

DEFAULT_COUNT = 3  # failures drawn for an entry with mtbf_s and without count


def build_plan(entries: Sequence[FailureEntry], nproc: int, every: int) -> tuple[dict[str, Any], ...]:
    """The failures of a schedule in the form of `run.json` (ecrl/records/failure_checks.py), fully decided."""
    planned: list[dict[str, Any]] = []
    for entry in entries:
        index = len(planned)
        when: list[dict[str, Any]]
        if entry.mtbf_s is not None:
            assert entry.seed is not None
            instants = draw_instants_s(entry.mtbf_s, entry.seed, entry.count or DEFAULT_COUNT)
            when = [{"after_s": after_s} for after_s in instants]
        elif entry.phase in RESTART_PHASES:
            when = [{"at": planned[-1]["at"]}]
        else:
            when = [{"at": entry.get_step(every)}]
        phase = {} if entry.phase == "step" else {"phase": entry.phase}
        options = {"options": given} if (given := entry.get_options()) else {}
        lasting = {} if entry.ends_attempt else {"ends_attempt": False}
        for place, found in enumerate(when, start=index):
            victim = entry.build_victim(place, nproc)
            planned.append({"index": place, **found, **phase, "kind": entry.kind} | victim | options | lasting)
    return tuple(planned)


def find_problems(
    entries: Sequence[FailureEntry], intervals: Sequence[int], *, steps: int | None, nproc: int | None, keep: int
) -> list[str]:
    """The reasons why a schedule of valid entries cannot be run.

    steps, nproc: None if not known, which is reported elsewhere; checks that need the value are skipped.
    """
    found = []
    if entries and entries[0].phase in RESTART_PHASES:
        found.append(f"found phase = {entries[0].phase!r} first, expected a failure before it: it belongs to a restart")
    for before, entry in itertools.pairwise(entries):
        if entry.phase in RESTART_PHASES and not before.ends_attempt:
            found.append(f"found phase = {entry.phase!r} after {before.kind}, expected a failure that ends the attempt")
    if len(entries) > 1 and any(entry.mtbf_s is not None for entry in entries):
        found.append("found mtbf_s with other failures, expected it alone in its schedule: their order is unknown")
    plain = Counter(e.at for e in entries if e.at is not None and e.phase == "step")
    found += [f"found step {at} twice, expected each step once" for at, count in plain.items() if count > 1]
    named = [entry.ranks if isinstance(entry.ranks, list) else [entry.rank] for entry in entries]
    found += [
        f"found rank {rank}, expected a rank below nproc = {nproc}"
        for rank in itertools.chain(*named)
        if nproc is not None and rank is not None and rank >= nproc
    ]
    for every in intervals:
        found += _find_unreachable(entries, every, steps, keep)
    if not intervals and steps is not None:  # they are wrong themselves: what needs none is told all the same
        found += [_describe_past_end(at, steps) for at in plain if at > steps]
    return list(dict.fromkeys(found))


def _describe_past_end(at: int, steps: int, of: str = "") -> str:
    return f"found a failure at step {at}{of}, past the last step ({steps})"


def _find_unreachable(entries: Sequence[FailureEntry], every: int, steps: int | None, keep: int) -> list[str]:
    """The failures that a run with this checkpoint_every never reaches."""
    found = []
    newest, before, met = 0, 0, set[int]()  # newest: the latest step from which the previous restart may resume
    lasting = 0  # the step of the previous failure if it does not end the attempt, else 0
    for entry in entries:
        if entry.phase in RESTART_PHASES or entry.mtbf_s is not None:
            continue
        if entry.interval is not None and every == 1:
            found.append(f"found interval = {entry.interval} with checkpoint_every = 1: the interval has no inner step")
            continue
        at, in_checkpoint = entry.get_step(every), entry.phase in CHECKPOINT_PHASES
        if steps is not None and at > steps:
            of = f" (checkpoint_every = {every})" if in_checkpoint or entry.interval is not None else ""
            found.append(_describe_past_end(at, steps, of))
            continue
        if entry.phase == "retention" and at <= keep * every:
            found.append(
                f"found retention at step {at}: with checkpoint_every = {every} and keep = {keep} no checkpoint is"
                f" removed before step {(keep + 1) * every}"
            )
        if newest >= at and (in_checkpoint or at not in met):
            found.append(
                f"found step {at} after a failure at {before}: with checkpoint_every = {every} the run resumes from"
                f" step {newest} and never reaches this failure"
            )
        if at < lasting:
            found.append(
                f"found step {at} after a failure at {lasting} that does not end the attempt: the run continues"
                " from there and never reaches this failure"
            )
        met.add(at)
        before = at
        if not entry.ends_attempt:
            lasting = at
            continue
        lasting = 0
        # a failure in staging, persist or commit prevents that checkpoint: the restart resumes from the one before
        newest = max(newest, at - every if in_checkpoint and entry.phase != "retention" else at // every * every)
    return found
