"""What starts the ranks of a run, and the handle of a run that it has started.

The folder `launch/launchers/` is the registry: a file is a launcher, by the name that `train.launcher` has for it.
Where a suite runs is no launcher's to say: an executor (a folder `launch/executors/`, once there is more than this
host) would take suites and start an ecrl there, which uses these launchers.
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
    """The launcher's report of the first worker that failed. unix_ns: when it said so, or None."""

    local_rank: int
    exitcode: int
    unix_ns: int | None


class RunHandle(ABC):
    """A run that was started: all that its supervisor knows of it, whatever started it and wherever it goes on.

    owner: the process at the root of the run. command: what started that. paths: where its records can be read from
    here.
    """

    owner: Owner
    command: Sequence[str]
    paths: RunPaths

    @abstractmethod
    def poll(self) -> int | None:
        """The run's exit code, or None while it goes on."""

    @abstractmethod
    def wait(self, timeout_s: float) -> int | None:
        """The run's exit code as soon as it has ended, or None if it still goes on after `timeout_s`."""

    @abstractmethod
    def stop(self, now: Callable[[], bool]) -> int:
        """End everything of the run, gently first; returns its exit code. now: asked all the while; True: at once.

        Raises:
            EcrlError: a process of it does not end.
        """

    @abstractmethod
    def end_leftovers(self) -> None:
        """End what a run that has ended left behind."""

    @abstractmethod
    def read_failures(self) -> list[WorkerFailed]:
        """The failed workers that the launcher has reported since the last call."""

    @abstractmethod
    def close(self) -> None:
        """Close what the handle has open; ends nothing."""


class Launcher(ABC):
    """Starts the ranks of runs, and restarts them after failures. lease: the devices that it does this on; None: any.
    It is closed before the lease is released."""

    def __init__(self, lease: Lease | None = None) -> None:
        self.lease = lease

    def prepare(self, run: Run, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]) -> bool:
        """Get ready what serves this run and the next ones; its time is no run's. False: nothing was to be done.
        Returns early once `given_up` says so."""
        return False

    @abstractmethod
    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        """Start a run whose folder is there, the launcher's own output going to `log`."""

    def close(self) -> None:
        """Let go of what serves several runs; none is going on."""


LauncherFactory = Callable[[str, Lease | None], Launcher]


@dataclass(frozen=True)
class LauncherPlugin:
    """A member of `launchers/`, which says of itself what can be known without importing it.

    leases_devices: its runs compute on devices of this host, leased before. forks_warm: ranks are forked from a process
    that has imported everything. serves_many_runs: it keeps something from run to run, which `prepare` starts.
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
        EcrlError: there is none.
    """
    plugin: LauncherPlugin = plugins.load("launcher", name)
    return plugin.make(lease)


class LauncherPool:
    """The launchers of one lease, each made when a run first asks for it."""

    def __init__(self, lease: Lease | None, make: LauncherFactory = load_launcher) -> None:
        self._lease = lease
        self._make = make
        self._launchers: dict[str, Launcher] = {}

    def get_launcher(self, run: Run) -> Launcher:
        """The launcher that the run asks for."""
        name = run.spec.train.launcher
        if name not in self._launchers:
            self._launchers[name] = self._make(name, self._lease)
        return self._launchers[name]

    def close(self) -> None:
        """Close every launcher; no run is going on."""
        for launcher in self._launchers.values():
            launcher.close()
