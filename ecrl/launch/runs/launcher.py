"""The interface of launchers, which start the ranks of a run, and of the handle of a started run.

The folder `launch/launchers/` is the registry: each file is a launcher with the name that `train.launcher` uses. A
launcher does not choose the host of a suite: an executor (a folder `launch/executors/`, once ecrl supports more than
this host) would take suites and start an ecrl there, which uses these launchers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecrl import plugins
from ecrl.launch.runs.run import Run
from ecrl.launch.system.device_leases import Lease
from ecrl.records.manifest.store import Owner
from ecrl.records.paths import RunPaths


@dataclass(frozen=True)
class WorkerFailed:
    """The launcher's report of the first worker that failed. unix_ns: the time of the report, or None."""

    local_rank: int
    exitcode: int
    unix_ns: int | None


class RunHandle(ABC):
    """A started run, as its supervisor sees it, independent of the launcher and of the place where the run executes.

    owner: the process at the root of the run. command: the command that started it. paths: where its records can be
    read on this host.
    """

    owner: Owner
    command: Sequence[str]
    paths: RunPaths

    @abstractmethod
    def poll(self) -> int | None:
        """The run's exit code, or None while it is running."""

    @abstractmethod
    def wait(self, timeout_s: float) -> int | None:
        """The run's exit code as soon as it has ended, or None if it is still running after `timeout_s`."""

    @abstractmethod
    def stop(self, now: Callable[[], bool]) -> int:
        """End all processes of the run, gently first; returns its exit code.

        now: called repeatedly; True ends the processes at once.

        Raises:
            EcrlError: a process does not end.
        """

    @abstractmethod
    def end_leftovers(self, now: Callable[[], bool]) -> None:
        """End the processes that an ended run left behind. now: see `stop`."""

    @abstractmethod
    def read_failures(self) -> list[WorkerFailed]:
        """The failed workers that the launcher has reported since the last call."""

    @abstractmethod
    def close(self) -> None:
        """Close the handle's files and descriptors. Ends no process."""


class Launcher(ABC):
    """Starts the ranks of runs and restarts them after failures.

    lease: the devices to use; None: any. A launcher is closed before its lease is released.
    """

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease = lease

    def prepare(self, run: Run, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]) -> bool:
        """Start what serves this run and later ones. Its time does not count for any run.

        Returns False if there was nothing to do. Returns early once `given_up` returns True.
        """
        return False

    @abstractmethod
    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        """Start a run whose folder exists. The launcher's own output goes to `log`."""

    def close(self, now: Callable[[], bool] = lambda: False) -> None:
        """Release what serves several runs. Call it while no run is active. now: see `RunHandle.stop`."""


LauncherFactory = Callable[[str, Lease | None], Launcher]


@dataclass(frozen=True)
class LauncherPlugin:
    """A member of `launchers/`: properties that are known without importing the launcher.

    leases_devices: its runs compute on devices of this host, which are leased first. forks_warm: ranks are forked from
    a process that has imported everything. serves_many_runs: `prepare` starts something that serves several runs.
    is_local: the ranks are processes of this host.
    """

    description: str
    make: Callable[[Lease | None], Launcher]
    leases_devices: bool
    forks_warm: bool
    serves_many_runs: bool
    is_local: bool


def load_launcher(name: str, lease: Lease | None = None) -> Launcher:
    """A new launcher of this name.

    Raises:
        EcrlError: there is no such launcher.
    """
    return load_launcher_plugin(name).make(lease)


def load_launcher_plugin(name: str) -> LauncherPlugin:
    """What is known of the launcher of this name."""
    plugin: LauncherPlugin = plugins.load("launcher", name)
    return plugin


class LauncherPool:
    """The launchers of one lease. Each is made when a run first needs it."""

    def __init__(self, lease: Lease | None, make: LauncherFactory = load_launcher) -> None:
        self._lease = lease
        self._make = make
        self._launchers: dict[str, Launcher] = {}

    def get_launcher(self, run: Run) -> Launcher:
        """The launcher that the run names."""
        name = run.spec.train.launcher
        if name not in self._launchers:
            self._launchers[name] = self._make(name, self._lease)
        return self._launchers[name]

    def close(self, now: Callable[[], bool] = lambda: False) -> None:
        """Close every launcher. Call it while no run is active. now: see `RunHandle.stop`."""
        for launcher in self._launchers.values():
            launcher.close(now)
