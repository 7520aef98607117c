"""The launcher interface: how a run's processes are started, and in which environment."""

import copy
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ecrl.config.run import RunSpec
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.process import Process
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, RUN_MARKER
from ecrl.records.paths import RunPaths


@dataclass(frozen=True)
class WorkerFailed:
    """The launcher's report of the first worker that failed. unix_ns: when it said so, or None."""

    local_rank: int
    exitcode: int
    unix_ns: int | None


class Launcher(ABC):
    """What starts the worker group of a run and restarts it after failures. lease: the devices it does that on."""

    lease: Lease | None = None

    def copy_with_lease(self, lease: Lease) -> "Launcher":
        """The same launcher for runs on these devices; close it before the lease is released."""
        other = copy.copy(self)
        other.lease = lease
        return other

    def prepare(
        self, spec: RunSpec, paths: RunPaths, campaign: Path, log: IO[bytes], given_up: Callable[[], bool]
    ) -> bool:
        """Get ready what serves this run and the next ones; its time is no run's. False: nothing was to be done.
        Returns early once `given_up` says so."""
        return False

    def start(self, spec: RunSpec, paths: RunPaths, campaign: Path, log: IO[bytes]) -> Process:
        """Start a run, its launcher's output going to `log`."""
        return subprocess.Popen(
            self.command(spec, paths),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment(spec, paths, campaign) | self.leased_environment,
            pass_fds=self.inherited,  # a launcher that outlives ecrl keeps its devices
            start_new_session=True,  # signals from the terminal are ecrl's to answer
        )

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors of the lease that a run's root process inherits."""
        return () if self.lease is None else self.lease.fds

    @property
    def leased_environment(self) -> dict[str, str]:
        """What the lease adds to a run's environment."""
        return {} if self.lease is None else self.lease.environment

    def close(self) -> None:
        """Let go of what serves several runs; none is going on."""

    @abstractmethod
    def command(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        """The command line of one run."""

    @abstractmethod
    def environment(self, spec: RunSpec, paths: RunPaths, campaign: Path) -> dict[str, str]:
        """The whole environment of that command."""

    @abstractmethod
    def parse_failure(self, line: str) -> WorkerFailed | None:
        """The failed worker that a line of the launcher's log reports, if it does."""


def build_run_environment(
    base: Mapping[str, str], spec: RunSpec, paths: RunPaths, campaign: Path, gpus: tuple[int, ...]
) -> dict[str, str]:
    """The environment of a run's processes, whatever starts them."""
    extra = {
        "OMP_NUM_THREADS": str(spec.train.threads),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # no third-party backend is imported into a measured process
        CAMPAIGN_MARKER: str(campaign),
        RUN_MARKER: str(paths.folder),
    }
    if gpus:
        extra["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
    if spec.train.deterministic:
        extra["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    return {**base, **extra}
