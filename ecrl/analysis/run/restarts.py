"""Where each restart's time went: from the kill to the first step of the attempt that followed it.

A phase ends when the last rank has passed it; its seconds are None where the records lack one of its ends.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from ecrl.analysis.run.timeline import NS_PER_S, Timeline
from ecrl.records.reader import RunRecord

# Each phase and what ends it; the first begins with the kill.
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
    """One restart. attempt: the one that began; seconds: by phase; total_s: kill to the first step's begin;
    first_step_s: to its end."""

    attempt: int
    seconds: dict[str, float | None]
    total_s: float | None
    first_step_s: float | None


class HasRestarts(Protocol):
    """What this module needs of an analysed run (`metrics.RunAnalysis`, which is made from what is here)."""

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """Its restarts."""


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
        """When the last rank had its first event of `kind`; None unless all of them had one."""
        first = (
            next((e.get(key) for e in events if e["e"] == kind), None)
            for (a, _), events in record.events.items()
            if a == attempt
        )
        stamps = [t for t in first if isinstance(t, int)]
        return max(stamps) if len(stamps) == nproc else None

    born = last("start", "process_start")
    if born is not None and detected is not None:
        born = max(born, detected)  # the kernel tells it to 10 ms
    begun = last("step", "t0")
    ends = (detected, born, last("imported"), last("group"), last("ready"), last("restored"), begun)
    seconds = {
        phase: _seconds_between(begin, end) for phase, begin, end in zip(PHASES, (killed, *ends), ends, strict=False)
    }
    return Restart(attempt, seconds, _seconds_between(killed, begun), _seconds_between(killed, last("step")))


@dataclass(frozen=True)
class Medians:
    """Medians over n restarts; None where no restart's records tell."""

    n: int
    seconds: dict[str, float | None]
    total_s: float | None


def medians(runs: Iterable[HasRestarts]) -> Medians | None:
    """The medians over the restarts of some runs; None where they never restarted."""
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
