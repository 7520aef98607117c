"""torchrun as a launcher: its command, its environment, and what its log says. Nothing is imported from it."""

import os
import re
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ecrl.config.run import RunSpec
from ecrl.launch.launchers.base import Launcher, WorkerFailed, build_run_environment
from ecrl.records.paths import RunPaths

_FAILED = re.compile(
    r"[EW](?P<stamp>\d{4} \d\d:\d\d:\d\d\.\d+) .*failed \(exitcode: (?P<code>-?\d+)\) local_rank: (?P<rank>\d+)"
)
# How often torchrun looks whether a rank has died; a look costs it a tenth of a millisecond.
MONITOR_INTERVAL_S = "0.02"
_STAMP_FORMAT = "%Y%m%d %H:%M:%S.%f"


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
