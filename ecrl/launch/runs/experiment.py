"""The interface of kinds of experiment for the orchestrator: what a run needs of a machine, costs, and how it is made.

The folder `ecrl/experiments/` is the registry. The file `run.py` of a kind's folder exports its `ExperimentKind`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecrl import plugins
from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.config.suite import Suite
from ecrl.launch.doctor.finding import Requirements
from ecrl.launch.runs.progress import Observer
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.run_times import TimeKey
from ecrl.launch.system.device_leases import DeviceSet, Lease, list_cores
from ecrl.launch.system.signals import StopRequest
from ecrl.records.manifest.store import Row
from ecrl.records.result import Result


@dataclass(frozen=True)
class SuiteGroup:
    """Suites of equal cost. suite: one of them. number: how many there are. runs: variant -> runs to make per suite."""

    suite: Suite
    number: int
    runs: Mapping[str, int]


@dataclass(frozen=True)
class Work:
    """What runs have to do. numbers: by name, for `--json`. text: the same for a person; may be empty."""

    numbers: Mapping[str, int]
    text: str


@dataclass(frozen=True)
class DiskUse:
    """Bytes that runs write. kept: those that stay. peak: what the largest runs at once need besides, while they run.

    advice: how to need fewer, for a message. records: what stays in the results folder beside checkpoints.
    """

    written: int
    kept: int
    peak: int
    advice: str
    records: int = 0


@dataclass(frozen=True)
class Trial:
    """What a few steps told.

    step_s: of a step after the first. start_s: from the start of a run to the end of its first step, less a step.
    """

    start_s: float
    step_s: float


class Machine:
    """What is known of this machine. facts: recorded with every result.

    This class suits runs that need nothing but a CPU core each. A kind that asks more of a machine derives from it.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts

    def device(self, wanted: str) -> str:
        """The device to use. wanted: as in `run.device`; decides unless it is `auto`."""
        return "cpu" if wanted == "auto" else wanted

    def check(self, matrix: Matrix) -> None:
        """Raise if this machine cannot run the matrix. Called before anything is started."""

    def save(self, path: Path, matrix: Matrix) -> None:
        """Keep in a file of the campaign what `inspect_machine` would have to find out again."""

    def compute_requirements(self, matrix: Matrix, disk_bytes: int = 0) -> Requirements | None:
        """What `run.jobs` runs at the same time need, for the doctor; None: nothing in particular."""
        return None

    def compute_disk_use(self, matrix: Matrix, groups: Sequence[SuiteGroup]) -> DiskUse | None:
        """The disk space that the runs of these suites need; None: not known."""
        return None

    def list_device_sets(self, matrix: Matrix) -> list[DeviceSet]:
        """The disjoint sets of devices on which runs can go on at the same time, one set for each run."""
        return list_cores()


@dataclass(frozen=True)
class Lane:
    """One of the lanes of a campaign, which executes one run at a time.

    lease: the devices of its runs. campaign: the folder that marks the campaign's processes. facts: of the machine.
    timeout_s, stall_timeout_s: seconds, or seconds without a record, after which a run is ended and has failed; None:
    no limit.
    """

    lease: Lease
    campaign: Path
    observer: Observer
    stop: StopRequest
    facts: dict[str, Any]
    timeout_s: float | None
    stall_timeout_s: float | None = None


class Executor(ABC):
    """Executes the runs of one lane, one after another."""

    @abstractmethod
    def execute(self, run: Run) -> Result | None:
        """Execute a run whose folder does not exist yet, and return its result. None: ecrl was asked to stop.

        Writes `run.json` first and `result.json` last (`ecrl.launch.runs.outcome.write_result`). No process of the run
        is left, whatever happens.

        Raises:
            OSError: the folder cannot be written. A full disk is no result of a run.
        """

    def close(self) -> None:
        """Release what serves several runs. Called while no run is active, before the lease is released."""


class ExperimentKind(ABC):
    """What the orchestrator asks of a kind of experiment."""

    def require_packages(self, matrix: Matrix) -> None:
        """Raise `MissingExtraError` if a package that the matrix needs is not installed."""

    def inspect_machine(
        self, matrix: Matrix, stored: Path | None, note: Callable[[str], None], stop: StopRequest
    ) -> Machine:
        """What must be known of this machine to run the matrix.

        stored: the file of `Machine.save`, which may not exist; None: ask the machine. note: tells the user what takes
        time.

        Raises:
            EcrlError: the machine cannot be asked.
            StoppedError: a signal came.
        """
        return Machine({})

    def count_work(self, groups: Sequence[SuiteGroup]) -> Work:
        """What the runs of these suites have to do, as far as it can be counted beforehand."""
        return Work({}, "")

    def build_time_key(self, of: RunSpec | Row, variant: str) -> TimeKey:
        """What decides how long a run takes, of a run or of a suite's row. variant: '': all of the suite together."""
        return (variant,)

    def build_warm_up(self, spec: RunSpec, checkpoints: int) -> RunSpec | None:
        """A run that brings a machine into the state in which this one would leave it, with at least this many
        checkpoints; it is ended after some seconds. None: runs of this kind need none.
        """
        return None

    def build_trial(self, spec: RunSpec) -> RunSpec | None:
        """A run of a few steps that tells how long this one takes; equal ones are made once. None: runs of this kind
        are not tried."""
        return None

    def estimate_s(self, group: SuiteGroup, trial: Trial) -> float:
        """The seconds that the runs of a suite take, one after the other, by the trial of one of them."""
        return sum(group.runs.values()) * (trial.start_s + trial.step_s)

    @abstractmethod
    def make_executor(self, lane: Lane) -> Executor:
        """A new executor for the runs of a lane."""


def load_kind(name: str) -> ExperimentKind:
    """The kind of experiment with this name."""
    kind: ExperimentKind = plugins.load("experiment", name, "run")
    return kind
