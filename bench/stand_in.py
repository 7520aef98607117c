"""A launcher that starts the cheapest possible worker, behind the interface of the real one."""

import os
import sys
from pathlib import Path

from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.launch.launchers.base import Launcher, WorkerFailed, build_run_environment
from ecrl.launch.launchers.torchrun import Torchrun
from ecrl.launch.system.signals import StopRequest
from ecrl.launch.system.torch_probe import Probe
from ecrl.records.paths import RunPaths

# The records of a whole run of one rank, written by a shell: no interpreter is started.
_WORKER = """
e="$1/events-0-0.jsonl"; s="$2"
printf '{"e":"ready","t":1}\\n{"e":"restored","t":1,"t0":0,"step":0,"passed_over":[]}\\n' > "$e"
printf '{"e":"step","t":2,"s":%s,"t0":1,"loss":1.0,"ids":"x"}\\n' "$s" >> "$e"
printf '{"e":"final","t":3,"s":%s,"digest":"d","params_digest":"p","rng_digest":"r"}\\n' "$s" >> "$e"
printf '{"e":"end","t":3}\\n' >> "$e"
"""


class Shell(Launcher):
    """Starts the worker as a shell script."""

    def command(self, spec: RunSpec, paths: RunPaths) -> list[str]:
        return ["/bin/sh", "-c", _WORKER, "worker", str(paths.folder), str(spec.train.steps)]

    def environment(self, spec: RunSpec, paths: RunPaths, campaign: Path) -> dict[str, str]:
        return build_run_environment(os.environ, spec, paths, campaign, ())

    def parse_failure(self, line: str) -> WorkerFailed | None:
        return Torchrun().parse_failure(line)


def launcher(_matrix: Matrix) -> Launcher:
    """A new one."""
    return Shell()


def answer(matrix: Matrix, _stop: StopRequest) -> Probe:
    """A machine that has everything."""
    datasets = {name: {"ok": True, "num_classes": 10, "synthetic": True} for name in matrix.matrix.datasets}
    sizes = {f"{d}/{m}": 1000 for d in matrix.matrix.datasets for m in matrix.matrix.models}
    return Probe({"python": sys.version.split()[0]}, (), datasets, sizes)
