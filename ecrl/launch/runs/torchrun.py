"""torchrun on this host: its command, environment and log, and a run that it executes. ecrl imports none of its
code."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, ClassVar, cast

from ecrl.launch.runs.file_tail import FileTail
from ecrl.launch.runs.launcher import Launcher, RunHandle, WorkerFailed
from ecrl.launch.runs.run import Run
from ecrl.launch.system.child import build_module_command, find_working_folder
from ecrl.launch.system.environment import build_child_environment
from ecrl.launch.system.process_group import ExitWait, end_leftovers, end_run, open_exit_fd
from ecrl.launch.system.process_identity import RUN_MARKER, build_campaign_markers, get_owner
from ecrl.records.failure_checks import count_expected_restarts

_FAILED = re.compile(
    r"[EW](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d+) .*failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<rank>\d+)"
)
# Seconds between torchrun's checks for dead ranks; a check costs a tenth of a millisecond.
MONITOR_INTERVAL_S = "0.02"
_STAMP_FORMAT = "%Y%m%d %H:%M:%S.%f"


class TorchrunHandle(RunHandle):
    """A run whose root is a process of this host. Its other processes are found as descendants and by their marker."""

    def __init__(self, run: Run, process: "subprocess.Popen[bytes]") -> None:
        self.paths = run.paths
        self.command = cast("list[str]", process.args)
        self.owner = get_owner(process.pid)
        self._process = process
        self._log: FileTail | None = None
        self._exit_wait = ExitWait(self.poll, self._open_exit_fd())

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout_s: float) -> int | None:
        return self._exit_wait.wait(timeout_s)

    def stop(self, now: Callable[[], bool]) -> int:
        end_run(self.owner.pid, self.paths.folder, stop_now=now)
        return self._join()

    def end_leftovers(self, now: Callable[[], bool]) -> None:
        end_leftovers(self.paths.folder, now)

    def read_failures(self) -> list[WorkerFailed]:
        if self._log is None:  # not opened in __init__: a missing log must not hide a running run
            self._log = FileTail(self.paths.torchrun_log)
        told = (parse_failure(line.decode(errors="replace")) for line in self._log.lines())
        return [failed for failed in told if failed is not None]

    def close(self) -> None:
        self._exit_wait.close()
        if self._log is not None:
            self._log.close()

    def _open_exit_fd(self) -> int | None:
        """A new descriptor that is readable once the run has ended. None: the kernel does not support it."""
        return open_exit_fd(self.owner.pid)

    def _join(self) -> int:
        """Wait for the end of a run that is being ended; returns its exit code."""
        return self._process.wait()


class TorchrunLauncher(Launcher):
    """Starts `python -m torch.distributed.run` for every run.

    worker: the module that runs as each rank; its argument is the run's folder.
    """

    worker: ClassVar[str] = "ecrl.worker"

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        """Start a run in a process of its own."""
        return TorchrunHandle(run, self.spawn(run, campaign, log, subprocess.DEVNULL))

    def spawn(self, run: Run, campaign: Path, log: IO[bytes], stdin: int) -> "subprocess.Popen[bytes]":
        """Start `command` in a session of its own."""
        return subprocess.Popen(
            self.command(run),
            stdin=stdin,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self.environment(run, campaign),
            pass_fds=() if self.lease is None else self.lease.fds,  # a launcher that outlives ecrl keeps the lease
            cwd=find_working_folder(),
            start_new_session=True,  # ecrl alone handles signals from the terminal
        )

    def command(self, run: Run) -> list[str]:
        """The command line to start."""
        return [*build_module_command("torch.distributed.run"), *self.arguments(run)]

    def arguments(self, run: Run) -> list[str]:
        """torchrun's arguments."""
        # Only the planned restarts are allowed: one more would follow an unplanned crash.
        restarts = count_expected_restarts(run.spec.failures)
        return [
            *("--standalone", "--nproc-per-node", str(run.spec.train.nproc), "--max-restarts", str(restarts)),
            # By default torchrun gives the ranks this host's name, which need not resolve.
            *("--local-addr", "127.0.0.1"),
            *("--monitor-interval", MONITOR_INTERVAL_S, "--redirects", "3", "--log-dir", str(run.paths.logs)),
            *("-m", self.worker, str(run.paths.folder)),
        ]

    def environment(self, run: Run, campaign: Path) -> dict[str, str]:
        """The whole environment of the command: the caller's, torchrun settings, the markers and the devices."""
        leased = {} if self.lease is None else self.lease.environment
        return build_run_environment(os.environ, run, campaign) | leased


def build_run_environment(base: Mapping[str, str], run: Run, campaign: Path) -> dict[str, str]:
    """The environment of a run's processes, for every launcher."""
    extra = {
        "OMP_NUM_THREADS": str(run.spec.train.threads),
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",  # no third-party backend is imported into a measured process
        **build_campaign_markers(campaign),
        RUN_MARKER: str(run.paths.folder),
    }
    if run.spec.job is not None:
        # Scripts take the process group from the environment. In torchrun's store, which outlives attempts, the ranks
        # of a new attempt could take the dead group's addresses from each other's keys.
        extra["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    if run.spec.train.deterministic:
        extra["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # cuBLAS is deterministic only with a fixed workspace
    return build_child_environment(base, extra)


def parse_failure(line: str) -> WorkerFailed | None:
    """The failed worker that a line of torchrun's log reports. None: the line reports none.

    Example: `E1121 23:30:12.123000 <pid> ...] failed (exitcode: -9) local_rank: 0 (pid: 42) of binary: ...`.
    """
    if not (match := _FAILED.search(line)):
        return None
    return WorkerFailed(int(match["rank"]), int(match["code"]), _unix_ns(match["stamp"], datetime.now()))


def _unix_ns(stamp: str, now: datetime) -> int | None:
    """Unix time of torchrun's stamp, which is local wall time without a year: in the year nearest to `now`."""
    candidates = []
    for year in (now.year - 1, now.year, now.year + 1):
        try:
            naive = datetime.strptime(f"{year}{stamp}", _STAMP_FORMAT)
        except ValueError:
            continue  # 29 February of another year
        # A stamp in the hour in which clocks are set back is ambiguous (fold).
        candidates += [naive.replace(fold=fold).timestamp() for fold in (0, 1)]
    nearest = min(candidates, key=lambda s: abs(s - now.timestamp()), default=None)
    return None if nearest is None else round(nearest * 1e9)
