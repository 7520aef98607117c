"""When a job takes its checkpoints: at a fixed interval, or when rank 0 finds that one pays."""

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from ecrl.checkpoint.agreement import Agreement
from ecrl.checkpoint.engine import Engine

_LOG = logging.getLogger("ecrl")
_QUIET_STEPS = 10  # steps without a checkpoint in flight that are measured before the first
_MEASURED = 3  # checkpoints that are measured before an interval is chosen
_BETWEEN = 5  # quiet steps between two of these
_REMEMBERED = 50  # quiet steps, and checkpoints, that the newest interval rests on
_KEPT_TOPICS = 1000  # decisions that stay readable for ranks that are behind


class Interval:
    """Every rank of a job asks after every step, and all get the same answers. This one follows the engine's interval.

    last: whether the state after the last step is saved in any case.
    """

    def __init__(self, engine: Engine, *, last: bool) -> None:
        self._engine, self._last = engine, last
        self._newest = 0

    def begin(self, step: int) -> None:
        """Note that `step` is done, restored or 0, before the first question."""
        self._newest = step

    def is_due(self, step: int) -> bool:
        """Whether the checkpoint of `step` is to be taken."""
        return self._engine.is_due(step)

    def note_save(self, step: int) -> None:
        """Note that the checkpoint of `step` was taken."""
        self._newest = step

    def wants_last(self, step: int) -> bool:
        """Whether the state after the last step is still to be saved. step: the last one."""
        return self._last and self._newest < step


class Rule(Protocol):
    """How rank 0 decides whether the step after `step` gets a checkpoint.

    newest: the step of the newest checkpoint that was taken. settled: the one that is durable or was given up.
    """

    def wants_next(self, step: int, newest: int, settled: int) -> bool: ...


class AgreedInterval(Interval):
    """Rank 0 decides one step ahead, and the other ranks read its decision.

    get_settled: the step of the newest checkpoint of this attempt that is durable or was given up; 0 before the first.
    """

    def __init__(self, engine: Engine, agreement: Agreement, rule: Rule, get_settled: Callable[[], int]) -> None:
        super().__init__(engine, last=True)
        self._agreement, self._rule, self._get_settled = agreement, rule, get_settled
        self._begun, self._next = 0, False

    def begin(self, step: int) -> None:
        super().begin(step)
        self._begun = step
        if self._agreement.rank == 0:
            self._decide(step, step)

    def is_due(self, step: int) -> bool:
        if self._agreement.rank != 0:
            return bool(self._agreement.read(f"due/{step}"))
        due = self._next
        self._decide(step, step if due else self._newest)
        return due

    def _decide(self, step: int, newest: int) -> None:
        settled = max(self._begun, self._get_settled())
        self._next = self._rule.wants_next(step, newest, settled)
        self._agreement.publish(f"due/{step + 1}", self._next)
        if step >= self._begun + _KEPT_TOPICS:
            self._agreement.forget(f"due/{step + 1 - _KEPT_TOPICS}")


class Continuous:
    """A checkpoint as soon as the one before is durable."""

    def wants_next(self, step: int, newest: int, settled: int) -> bool:
        """See `Rule`."""
        return settled >= newest


class Automatic:
    """Measures what a checkpoint costs, and takes one as often as that pays (Young, CACM 17, 1974: sqrt(2 C M)).

    The cost C is the time that steps with a checkpoint in flight take more than quiet ones, stall included.
    mtbf_s: the mean time between two failures of the job, in seconds. get_time: seconds of a clock.
    """

    def __init__(self, mtbf_s: float, get_time: Callable[[], float] = time.monotonic) -> None:
        self._mtbf_s, self._get_time = mtbf_s, get_time
        self._before: float | None = None
        self._quiet: deque[float] = deque(maxlen=_REMEMBERED)
        self._costs: deque[float] = deque(maxlen=_REMEMBERED)
        self._in_flight: int | None = None
        self._excess_s = 0.0
        self._quiet_steps = 0
        self._told = 0

    def wants_next(self, step: int, newest: int, settled: int) -> bool:
        """See `Rule`."""
        now = self._get_time()
        if self._before is not None:
            self._note_step(now - self._before, settled)
        self._before = now
        if self._in_flight is None and newest > settled:
            self._in_flight, self._excess_s = newest, 0.0
        return self._in_flight is None and self._pays(step + 1 - newest)

    def _note_step(self, took_s: float, settled: int) -> None:
        if self._in_flight is None:
            self._quiet.append(took_s)
            self._quiet_steps += 1
            return
        self._excess_s += took_s - statistics.median(self._quiet)
        if settled >= self._in_flight:
            self._costs.append(self._excess_s)
            self._in_flight, self._quiet_steps = None, 0

    def _pays(self, steps_since: int) -> bool:
        if len(self._costs) < _MEASURED:
            return self._quiet_steps >= (_BETWEEN if self._costs else _QUIET_STEPS)
        return steps_since >= self._compute_interval()

    def _compute_interval(self) -> int:
        step_s = statistics.median(self._quiet)
        cost_s = max(statistics.mean(self._costs), 0.0)
        steps = max(1, round(math.sqrt(2 * cost_s * self._mtbf_s) / step_s))
        if abs(steps - self._told) > self._told / 5:
            self._told = steps
            _LOG.info("a checkpoint costs %.3g s, a step %.3g s: one every %d steps", cost_s, step_s, steps)
        return steps
