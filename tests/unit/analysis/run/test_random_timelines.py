"""The ledger against a brute force that knows the state of every millisecond, on random runs with random failures."""

import random
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ecrl.analysis.run.event_validation import drop_invalid_events
from ecrl.analysis.run.step_history import build_step_history
from ecrl.analysis.run.timeline import timeline
from ecrl.records.reader import Event
from tests.unit.analysis.campaign_builder import Events, at, record, restored, save, span, spec, start, step

# docs/metrics.md, "The time ledger": the states from the highest on, with their buckets
ORDER = {
    "startup": "startup", "detect": "detect", "restart": "restart", "restore": "restore", "inline": "persist_stall",
    "backpressure": "persist_stall", "snapshot": "snapshot_stall", "drain": "drain", "replay": "replay",
    "compute": "compute", "lost": "lost_step", "shutdown": "shutdown",
}  # fmt: skip


@dataclass
class Drawn:
    """A run drawn millisecond by millisecond: its events, and the state of every rank as the definitions say."""

    rng: random.Random
    ranks: int
    most_attempts: int
    events: Events = field(default_factory=dict)
    launcher: list[Event] = field(default_factory=lambda: [at("spawn", 0)])
    states: list[tuple[str, int, int]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)  # steps in the order of their execution
    reached: int = 0  # the step of the state in memory
    rollbacks: int = 0
    end: int = 0

    def say(self, attempt: int, rank: int, event: Event) -> None:
        self.events.setdefault((attempt, rank), []).append(event)

    def be(self, state: str, begin: int, end: int) -> int:
        self.states.append((state, begin, end))
        return end

    def draw(self) -> "Drawn":
        steps, every, attempts = self.rng.randint(2, 9), self.rng.randint(1, 4), self.rng.randint(1, self.most_attempts)
        saved, down = [0], 0
        for attempt in range(attempts):
            resumed, highest = self.rng.choice(saved), max(self.done, default=0)
            self.rollbacks += self.reached - resumed if attempt else 0
            begin = self._begin(attempt, down, resumed, steps - resumed)
            struck = None if attempt == attempts - 1 else self.rng.randint(0, steps)
            down = self._train(attempt, resumed, begin, highest, steps, every, struck, saved)
        return self

    def _begin(self, attempt: int, down: int, resumed: int, left: int) -> int:
        """Start all ranks: the instant at which all enter their first step. left: steps to do."""
        came = [down + self.rng.randint(1, 30) for _ in range(self.ranks)]
        ready = [t + self.rng.randint(1, 30) for t in came]
        back = [max(ready) + self.rng.randint(0, 5) for _ in range(self.ranks)]
        over = [t + self.rng.randint(0, 9) for t in back]
        first = max(over) + (self.rng.randint(0, 3) if left else 0)
        for rank in range(self.ranks):
            self.say(attempt, rank, start(came[rank]))
            self.say(attempt, rank, at("ready", ready[rank]))
            self.say(attempt, rank, restored(resumed, back[rank], over[rank]))
        if attempt:
            self.be("restore", self.be("restart", down, max(ready)), first)
        else:
            self.be("startup", 0, first)
        return first

    def _train(
        self, attempt: int, now: int, begin: int, highest: int, steps: int, every: int, struck: int | None,
        saved: list[int],
    ) -> int:  # fmt: skip
        """Steps and saves until the failure or the end: the instant from which the group is down."""
        cursors, self.reached = [begin] * self.ranks, now
        while now < steps:
            self.reached = now = now + 1
            self.done.append(now)
            for rank in range(self.ranks):
                over = cursors[rank] + self.rng.randint(1, 9)
                self.say(attempt, rank, step(now, cursors[rank], over))
                cursors[rank] = self.be("replay" if now <= highest else "compute", cursors[rank], over)
            if now % every == 0:
                saved.append(now)
                for rank in range(self.ranks):
                    slot = cursors[rank] + self.rng.choice([0, 0, 4])
                    staged = slot + self.rng.randint(0, 4)
                    back = staged + self.rng.choice([0, 3])
                    self.say(attempt, rank, save(now, cursors[rank], slot, staged, back))
                    self.be("inline", self.be("snapshot", self.be("backpressure", cursors[rank], slot), staged), back)
                    cursors[rank] = back
            if struck is not None and now >= struck:
                return self._strike(attempt, now, cursors[0])
            cursors = [max(cursors) + self.rng.choice([0, 0, 1])] * self.ranks
        if struck is not None:  # nothing was left to do before the failure
            return self._strike(attempt, now, cursors[0])
        drained = [t + self.rng.randint(0, 20) for t in cursors]
        for rank in range(self.ranks):
            self.say(attempt, rank, span("drain", cursors[rank], drained[rank]))
            self.say(attempt, rank, at("end", drained[rank]))
            self.be("drain", cursors[rank], drained[rank])
        self.end = max(drained) + self.rng.randint(0, 9)
        self.be("shutdown", max(drained), self.end)
        self.launcher.append(at("exit", self.end, code=0))
        return 0

    def _strike(self, attempt: int, now: int, over: int) -> int:
        failed = over + self.rng.randint(0, 5)
        self.be("lost", over, failed)
        self.say(attempt, 0, at("failure", failed, index=attempt, at=now, kind="kill"))
        if self.rng.random() < 0.2:
            return failed
        found = failed + self.rng.randint(1, 20)
        self.launcher.append(at("worker_failed", found, local_rank=0, exitcode=-9))
        return self.be("detect", failed, found)

    def count(self) -> dict[str, int]:
        """Milliseconds in every bucket, one at a time."""
        order = list(ORDER)
        found: Counter[str] = Counter()
        for instant in range(self.end):
            here = [state for state, begin, end in self.states if begin <= instant < end]
            if here:
                found[ORDER[min(here, key=order.index)]] += 1
        return dict(found)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9))
def test_every_millisecond_of_a_random_run_is_in_the_bucket_that_the_definitions_name(seed: int) -> None:
    check(Drawn(random.Random(seed), ranks=1, most_attempts=4).draw())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10**9))
def test_of_several_ranks_the_highest_state_counts_in_every_millisecond(seed: int) -> None:
    # Without failures: what the other ranks did when one was struck is not theirs to record.
    rng = random.Random(seed)
    check(Drawn(rng, ranks=rng.randint(2, 3), most_attempts=1).draw())


def check(drawn: Drawn) -> None:
    run = spec(train={"steps": max(drawn.done), "nproc": drawn.ranks}, failures=())
    found = drop_invalid_events(record(run, drawn.events, drawn.launcher))
    line, _ = timeline(found)
    assert line is not None
    expected = drawn.count()
    filled = {bucket: round(seconds * 1000, 6) for bucket, seconds in line.ledger_s().items() if seconds}
    assert filled == expected
    assert round(line.residual_s() * 1000, 6) == drawn.end - sum(expected.values())
    history = build_step_history(found)
    executed = sum(len(own) for own in history.executed.values())
    assert executed == len(drawn.done)
    assert executed - len(set(drawn.done)) == drawn.rollbacks
