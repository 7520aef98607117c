"""The interface of trackers.

The folder `trackers/kinds/` is the registry: each file is a tracker with the name that `run.trackers` uses. A tracker
only passes points on; `RunFeed` makes them from the records. It may raise: only its own process ends then.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Value = bool | int | float | str


@dataclass(frozen=True)
class Point:
    """The values of some series at a step. unix_s: when they were recorded."""

    step: int
    unix_s: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it, when it is begun or gone on with.

    name: `suite/variant/seed1337`. campaign: the prefix, which other campaigns may have, too. campaign_id: this one's
    own, for stores that are shared. parameters: axes and settings. points: the number of points
    that were fed before. values: the newest value of each series. mark: what `RunLog.commit` returned last, or None.
    """

    name: str
    campaign: str
    campaign_id: str
    parameters: Mapping[str, Value]
    points: int
    values: Mapping[str, float]
    mark: Any

    @property
    def labels(self) -> dict[str, str]:
        """The parts of the name, by what they are."""
        return dict(zip(("suite", "variant", "seed"), self.name.replace("/seed", "/").split("/"), strict=True))


class RunLog(ABC):
    """One run in a tracker. A run of the campaign is the same run of the tracker after every restart."""

    @abstractmethod
    def log(self, points: Sequence[Point]) -> None:
        """Add points, in the order of the records."""

    @abstractmethod
    def commit(self) -> Any:
        """Make sure that a SIGKILL loses no point; return what `TrackedRun.mark` has to be to go on from here (JSON).

        Points that were logged after the last commit are logged again after a restart, and must not be there twice.
        """

    @abstractmethod
    def end(self, *, completed: bool) -> None:
        """The run has its result. Called after the last commit; `close` is not called."""

    def close(self) -> None:
        """The feeding ends before the run does: release what is open."""


class Tracker(ABC):
    """A campaign in a tracker. where: what its user opens. address: '' if what is stored lies in the tracker's folder,
    else where it is stored: another address has not been fed yet."""

    where: str
    address: str = ""

    @abstractmethod
    def open_run(self, run: TrackedRun) -> RunLog:
        """Begin a run, or go on with it."""


@dataclass(frozen=True)
class TrackerPlugin:
    """What a file of `trackers/kinds/` exports. make: called with the tracker's own folder and the prefix."""

    description: str
    make: Callable[[Path, str], Tracker]
