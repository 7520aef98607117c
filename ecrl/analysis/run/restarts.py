"""The phases of each restart, from the kill to the first step of the following attempt.

A phase ends when the last rank has completed it. Its seconds are None if the records lack its begin or its end.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ecrl.analysis.run.timeline import NS_PER_S, Timeline
from ecrl.records.reader import RunRecord

# phase -> the event that ends it. The first phase begins with the kill.
PHASES = {
    "detect": "the launcher reports the dead rank",
    "spawn": "the processes of the new attempt exist",
    "import": "imports are done; data and model are made",
    "group": "the process group is up",
    "prepare": "the model is spread over the ranks, its optimizer is made, the engine has its slots",
    "restore": "the checkpoint is chosen, verified and loaded",
    "first step": "the first step begins",
}


@dataclass(frozen=True)
class Restart:
    """One restart.

    attempt: the attempt that it started. seconds: by phase. total_s: from the kill to the begin of the first step.
    first_step_s: from the kill to the end of the first step.
    """

    attempt: int
    seconds: dict[str, float | None]
    total_s: float | None
    first_step_s: float | None


class HasRestarts(Protocol):
    """An object with restarts, such as `metrics.RunAnalysis`."""

    # `metrics` imports this module, so this module cannot import `RunAnalysis`

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """The restarts of the run."""


def restarts(record: RunRecord, line: Timeline) -> tuple[Restart, ...]:
    """Every restart after a planned failure, in order."""
    return tuple(
        _restart(record, outage.attempt + 1, outage.failed_t, outage.detected_t)
        for outage in line.outages
        if outage.failed_t is not None and outage.attempt + 1 in record.attempts
    )


def _restart(record: RunRecord, attempt: int, killed: int, detected: int | None) -> Restart:
    nproc = int(record.spec["train"]["nproc"])

    def last(kind: str, key: str = "t") -> int | None:
        """The stamp at which the last rank had its first event of `kind`; None unless every rank had one."""
        first = (
            next((e.get(key) for e in events if e["e"] == kind), None)
            for (a, _), events in record.events.items()
            if a == attempt
        )
        stamps = [t for t in first if isinstance(t, int)]
        return max(stamps) if len(stamps) == nproc else None

    born = last("start", "process_start")
    if born is not None and detected is not None:
        born = max(born, detected)  # the kernel's start time of a process has a resolution of 10 ms
    begun = last("step", "t0")
    ends = (detected, born, last("imported"), last("group"), last("ready"), last("restored"), begun)
    seconds = {
        phase: _seconds_between(begin, end) for phase, begin, end in zip(PHASES, (killed, *ends), ends, strict=False)
    }
    return Restart(attempt, seconds, _seconds_between(killed, begun), _seconds_between(killed, last("step")))


@dataclass(frozen=True)
class Medians:
    """Medians over n restarts. A value is None if it is not known for any restart."""

    n: int
    seconds: dict[str, float | None]
    total_s: float | None


def medians(runs: Iterable[HasRestarts]) -> Medians | None:
    """The medians over all restarts of the runs; None if there was no restart."""
    own = [restart for run in runs for restart in run.restarts]
    if not own:
        return None
    seconds = {phase: _median(restart.seconds[phase] for restart in own) for phase in PHASES}
    return Medians(len(own), seconds, _median(restart.total_s for restart in own))


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _seconds_between(begin: int | None, end: int | None) -> float | None:
    return None if begin is None or end is None else (end - begin) / NS_PER_S
