"""A launcher that starts the cheapest possible worker, behind the interface of the real one."""

import sys

from ecrl.config.matrix import Matrix
from ecrl.experiments.training.probe import Probe
from ecrl.experiments.training.run import Training
from ecrl.launch.runs.launcher import Launcher
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.torchrun import TorchrunLauncher
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.signals import StopRequest

# The records of a whole run of one rank, written by a shell: no interpreter is started.
_WORKER = """
e="$1/events-0-0.jsonl"; s="$2"
printf '{"e":"ready","t":1}\\n{"e":"restored","t":1,"t0":0,"step":0,"passed_over":[]}\\n' > "$e"
printf '{"e":"step","t":2,"s":%s,"t0":1,"loss":1.0,"ids":"x"}\\n' "$s" >> "$e"
printf '{"e":"final","t":3,"s":%s,"digest":"d","params_digest":"p","rng_digest":"r"}\\n' "$s" >> "$e"
printf '{"e":"end","t":3}\\n' >> "$e"
"""


class Shell(TorchrunLauncher):
    """Starts the worker as a shell script."""

    def command(self, run: Run) -> list[str]:
        return ["/bin/sh", "-c", _WORKER, "worker", str(run.paths.folder), str(run.spec.train.steps)]


def make_launcher(_name: str, lease: Lease | None) -> Launcher:
    """A new one."""
    return Shell(lease)


def answer(matrix: Matrix, _stop: StopRequest, _look: object) -> Probe:
    """A machine that has everything."""
    datasets = {name: {"ok": True, "synthetic": True} for name in matrix.matrix.datasets}
    sizes = {f"{d}/{m}": 1000 for d in matrix.matrix.datasets for m in matrix.matrix.models}
    return Probe({"python": sys.version.split()[0]}, (), datasets, sizes)


def load_kind(_name: str) -> Training:
    """Training with both put in place of the real ones."""
    return Training(ask=answer, make_launcher=make_launcher)
