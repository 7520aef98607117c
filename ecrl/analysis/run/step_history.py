"""The steps that a run executed, the executions that count in the end, and the steps that each failure rolled back.

Definitions: docs/metrics.md, "Replay and lost work".
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from ecrl.records.failure_checks import get_ending_failures
from ecrl.records.reader import Event, RunRecord

# (rank, step) -> value of one execution
PerRank = dict[tuple[int, int], float]


@dataclass(frozen=True)
class Loss:
    """The steps that one failure rolled back.

    completed: c, the last step completed before the failure. snapshotted: s, the newest step whose save had returned.
    restored: r, the step that the next attempt began from; None if it is not recorded.
    in_flight: whether the newest snapshot was not yet committed when the failure struck.
    """

    attempt: int
    completed: int
    snapshotted: int
    restored: int | None
    in_flight: bool

    @property
    def lost_interval_steps(self) -> int | None:
        """c - s: steps lost because no checkpoint had been requested since s; None if r is not known."""
        return None if self.restored is None else self.completed - max(self.snapshotted, self.restored)

    @property
    def lost_in_flight_steps(self) -> int | None:
        """s - r: steps lost although a checkpoint had been requested; None if r is not known."""
        return None if self.restored is None else max(self.snapshotted, self.restored) - self.restored

    @property
    def replayed_steps(self) -> int | None:
        """c - r: all steps lost; None if r is not known."""
        return None if self.restored is None else self.completed - self.restored


@dataclass(frozen=True)
class StepHistory:
    """The executions of one run.

    executed: the executed steps by attempt (see `get_executed_steps`). losses, ids: those that the last execution of
    every (rank, step) recorded. replays: one value per re-executed step: whether the loss of every comparable rank has
    the bits of the first execution; None if no rank can be compared. rollbacks: in the order of attempts.
    """

    executed: dict[int, frozenset[int]]
    losses: PerRank
    ids: dict[tuple[int, int], str]
    replays: tuple[bool | None, ...]
    rollbacks: tuple[Loss, ...]

    @property
    def executed_steps(self) -> int:
        """The number of executions, replays included."""
        return sum(len(steps) for steps in self.executed.values())

    @property
    def unique_steps(self) -> int:
        """The number of distinct executed steps."""
        return len(frozenset().union(*self.executed.values()))

    @property
    def replayed_steps(self) -> int:
        """Executed steps minus unique steps."""
        return self.executed_steps - self.unique_steps

    @property
    def rolled_back_steps(self) -> int | None:
        """Sum over failures of c - r: a second count of replayed steps, which must agree. None if an r is not known."""
        counts = [rollback.replayed_steps for rollback in self.rollbacks]
        return None if None in counts else sum(c for c in counts if c is not None)

    @property
    def replay_agreement(self) -> float | None:
        """Share of the comparable replayed steps whose loss bits equal the first execution's; None without any."""
        comparable = [agrees for agrees in self.replays if agrees is not None]
        return sum(comparable) / len(comparable) if comparable else None

    def mean_loss(self, step: int, nproc: int) -> float | None:
        """Mean over all ranks of the loss of a step's last execution; None unless every rank recorded it."""
        found = self._losses_by_step.get(step, {})
        if len(found) < nproc:
            return None
        return sum(found[rank] for rank in range(nproc)) / nproc

    @cached_property
    def _losses_by_step(self) -> dict[int, dict[int, float]]:
        found: dict[int, dict[int, float]] = {}
        for (rank, step), loss in self.losses.items():
            found.setdefault(step, {})[rank] = loss
        return found


def same_bits(a: float, b: float) -> bool:
    """Whether two doubles have the same bits: equal NaNs do, 0.0 and -0.0 do not."""
    return (a == b and a != 0) or bits(a) == bits(b)


def bits(value: float) -> bytes:
    """The bits of a double: equal for equal NaNs, different for 0.0 and -0.0."""
    return struct.pack("<d", value)


def build_step_history(record: RunRecord) -> StepHistory:
    """The executions of a run, from its step, loss, save, restored and failure events."""
    executed: dict[int, frozenset[int]] = {}
    first: PerRank = {}
    last: PerRank = {}
    ids: dict[tuple[int, int], str] = {}
    replays: list[bool | None] = []
    seen: frozenset[int] = frozenset()
    for attempt in record.attempts:
        losses: PerRank = {}
        recorded: dict[int, set[int]] = {}
        for rank, event in _steps_and_losses(record, attempt):
            if event["e"] == "step":
                recorded.setdefault(rank, set()).add(event["s"])
                last.pop((rank, event["s"]), None)  # a re-executed step whose loss was not read has no loss
                if isinstance(event.get("ids"), str):
                    ids[rank, event["s"]] = event["ids"]
            if event["loss"] is not None:
                losses[rank, event["s"]] = float(event["loss"])
        steps = get_executed_steps(record, recorded)
        replays += _agreements(steps & seen, first, losses)
        last |= losses
        first = losses | first
        executed[attempt] = steps
        seen |= executed[attempt]
    return StepHistory(executed, last, ids, tuple(replays), _rollbacks(record, executed))


def get_executed_steps(record: RunRecord, recorded: dict[int, set[int]]) -> frozenset[int]:
    """The executed steps of one attempt. recorded: the steps that each rank recorded.

    On the CPU they are the steps that any rank recorded; on an accelerator those that every rank recorded.
    """
    # On the CPU a rank records a step at its end. On an accelerator it records a step when the step is queued, and the
    # survivors of a failure queue more steps, which wait for the dead rank forever. A rank that is to die after a step
    # waits for the device first, so the steps that every rank recorded were executed.
    ranks = list(recorded.values())
    if record.spec["device"] == "cpu" or not ranks:
        return frozenset[int]().union(*ranks)
    return frozenset(ranks[0]).intersection(*ranks) if len(ranks) == record.spec["train"]["nproc"] else frozenset()


def _steps_and_losses(record: RunRecord, attempt: int) -> Iterator[tuple[int, Event]]:
    for (a, rank), events in sorted(record.events.items()):
        if a == attempt:
            yield from ((rank, event) for event in events if event["e"] in ("step", "loss"))


def _agreements(replayed: Iterable[int], first: PerRank, again: PerRank) -> list[bool | None]:
    """For every replayed step: whether the losses of all comparable ranks have the bits of the first execution."""
    same: dict[int, bool | None] = dict.fromkeys(sorted(replayed))
    for (rank, step), loss in again.items():
        if step in same and (rank, step) in first:
            same[step] = same[step] is not False and same_bits(first[rank, step], loss)
    return list(same.values())


def _rollbacks(record: RunRecord, executed: dict[int, frozenset[int]]) -> tuple[Loss, ...]:
    """The rollback of every attempt except the last.

    An attempt that died before it had loaded anything lost no steps.
    """
    # the next attempt loads the checkpoint that such an attempt should have loaded
    restored = {
        a: min(e["step"] for b, _, e in record.get_events("restored") if b == a)
        for a in _find_restoring_attempts(record)
    }
    lived = [a for a in record.attempts if a == record.attempts[0] or a in restored or executed[a]]
    found, begun = [], 0  # begun: the step that the attempt started from
    for attempt in record.attempts[:-1]:
        following = next((a for a in lived if a > attempt), None)
        to = None if following is None else restored.get(following)
        if attempt not in lived:
            if to is not None:
                found.append(Loss(attempt, to, to, to, False))
            continue
        completed = max(executed[attempt], default=begun)
        saves = (e["s"] for a, _, e in record.get_events("save") if a == attempt)
        saved = max((step for step in saves if step <= completed), default=begun)
        found.append(Loss(attempt, completed, saved, to, _has_been_in_flight(record, attempt, saved)))
        begun = completed if to is None else to
    return tuple(found)


def _find_restoring_attempts(record: RunRecord) -> list[int]:
    return sorted({attempt for attempt, _, _ in record.get_events("restored")})


def _has_been_in_flight(record: RunRecord, attempt: int, saved: int) -> bool:
    """Whether checkpoint `saved` was requested in this attempt and not committed before the attempt failed."""
    asked = any(e["s"] == saved for a, _, e in record.get_events("save") if a == attempt)
    struck = min((e["t"] for a, _, e in get_ending_failures(record) if a == attempt), default=None)
    committed = [e["t"] for a, _, e in record.get_events("committed") if a == attempt and e["s"] == saved]
    return asked and not any(struck is None or t <= struck for t in committed)
