"""torchrun as a launcher: its command, its environment, and what its log says. Nothing is imported from it."""

import copy
import os
import re
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol, runtime_checkable

from ecrl.config.run import RunSpec
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.process_identity import CAMPAIGN_MARKER, RUN_MARKER
from ecrl.records.paths import RunPaths

_FAILED = re.compile(
    r"[EW](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d+) .*failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<rank>\d+)"
)
# How often torchrun looks whether a rank has died; a look costs it a tenth of a millisecond.
MONITOR_INTERVAL_S = "0.02"
_STAMP_FORMAT = "%Y%m%d %H:%M:%S.%f"


@dataclass(frozen=True)
class WorkerFailed:
    """The launcher's report of the first worker that failed. unix_ns: when it said so, or None."""

    local_rank: int
    exitcode: int
    unix_ns: int | None


class Process(Protocol):
    """What was started for one run: a `subprocess.Popen`, or a part of a process that serves many runs."""

    @property
    def args(self) -> Any:
        """Its command line."""

    @property
    def pid(self) -> int:
        """The process at the root of everything that belongs to the run."""

    def poll(self) -> int | None:
        """The run's exit code, or None while it goes on."""

    def wait(self) -> int:
        """The run's exit code, as soon as it has ended."""


@runtime_checkable
class StopsOwnChildren(Protocol):
    """A run that ends while its process goes on."""

    def exit_fd(self) -> int:
        """A new descriptor that is readable once the run has ended."""


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


@dataclass
class Torchrun(Launcher):
    """`python -m torch.distributed.run` on this host; gpus: the devices the ranks may use (empty: all)."""

    gpus: tuple[int, ...] = ()

    def command(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        """torchrun's command line."""
        return [sys.executable, "-m", "torch.distributed.run", *self.arguments(spec, paths)]

    def arguments(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        """One restart for every planned failure: the next one would be a crash that nobody planned."""
        return [
            *("--standalone", "--nproc-per-node", str(spec.train.nproc), "--max-restarts", str(len(spec.failures))),
            *("--monitor-interval", MONITOR_INTERVAL_S, "--redirects", "3", "--log-dir", str(paths.logs)),
            *("-m", "ecrl.worker", str(paths.folder)),
        ]

    def environment(self, spec: RunSpec, paths: RunPaths, campaign: Path) -> dict[str, str]:
        """The caller's environment, the variables that users of torchrun set, and the markers."""
        return build_run_environment(os.environ, spec, paths, campaign, self.gpus)

    def parse_failure(self, line: str) -> WorkerFailed | None:
        """Parse `E1121 23:30:12.123000 <pid> ...] failed (exitcode: -9) local_rank: 0 (pid: 42) of binary: ...`."""
        if not (match := _FAILED.search(line)):
            return None
        return WorkerFailed(int(match["rank"]), int(match["code"]), _unix_ns(match["stamp"], datetime.now()))


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


def _unix_ns(stamp: str, now: datetime) -> int | None:
    """Unix time of torchrun's stamp: local wall time without a year, so the year that brings it nearest to now."""
    candidates = []
    for year in (now.year - 1, now.year, now.year + 1):
        try:
            naive = datetime.strptime(f"{year}{stamp}", _STAMP_FORMAT)
        except ValueError:
            continue  # 29 February of another year
        # A stamp in the hour that clocks are set back means one of two instants (fold).
        candidates += [naive.replace(fold=fold).timestamp() for fold in (0, 1)]
    nearest = min(candidates, key=lambda s: abs(s - now.timestamp()), default=None)
    return None if nearest is None else round(nearest * 1e9)
