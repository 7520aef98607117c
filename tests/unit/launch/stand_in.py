"""A launcher and a probe that need neither torch nor torchrun, behind the interfaces of the real ones.

As a program (`python -m tests.unit.launch.stand_in run|resume RESULTS PREFIX MATRIX BEHAVIOURS`) it is ecrl with
both put in place, to be killed by tests.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ecrl.cli.ui.messages import guard_streams
from ecrl.cli.ui.progress_log import ProgressLog
from ecrl.config.matrix import Matrix
from ecrl.config.run import RunSpec
from ecrl.errors import EcrlError
from ecrl.experiments.training.probe import Probe
from ecrl.experiments.training.run import Ask, Training
from ecrl.launch.campaign.control import Control
from ecrl.launch.campaign.recover import Policy
from ecrl.launch.campaign.request import Request
from ecrl.launch.runs.launcher import LauncherFactory, RunHandle
from ecrl.launch.runs.progress import Observer, RunProgress, SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.torchrun import TorchrunLauncher
from ecrl.launch.system.device_leases import Lease
from ecrl.launch.system.signals import StopRequest, handle_signals
from ecrl.records.paths import CampaignPaths
from tests.matrices import without_warm_up

WORKER = Path(__file__).with_name("stand_in_worker.py")

MATRIX = """
[matrix]
datasets = ["noise"]
models = ["cnn"]
checkpoint_every = [2]
[failures]
early = [3]
late = [5]
[train]
steps = 6
nproc = 2
batch_size = 4
"""


@dataclass
class StandIn(TorchrunLauncher):
    """behaviours: of runs, by 'variant' or 'label/variant'; anything else is 'ok'. started: every run, in order."""

    behaviours: dict[str, str] = field(default_factory=dict)
    started: list[str] = field(default_factory=list)
    lease: Lease | None = None

    def start(self, run: Run, campaign: Path, log: IO[bytes]) -> RunHandle:
        self.started.append(f"{run.spec.failure_label}/{run.spec.variant}")
        return super().start(run, campaign, log)

    def command(self, run: Run) -> list[str]:
        label, variant = run.spec.failure_label, run.spec.variant
        behaviour = self.behaviours.get(f"{label}/{variant}", self.behaviours.get(variant, "ok"))
        return [sys.executable, str(WORKER), behaviour, str(run.paths.folder)]


def in_place_of_all(launcher: StandIn) -> LauncherFactory:
    """This launcher for every run, whichever launcher that asks for; what it keeps, all lanes share."""
    return lambda _name, lease: dataclasses.replace(launcher, lease=lease)


def answer(matrix: Matrix, _stop: StopRequest | None = None, _look: object = None) -> Probe:
    """A machine without GPUs that has every data set; a checkpoint takes 1,000 bytes."""
    datasets = {name: {"ok": True, "synthetic": True} for name in matrix.matrix.datasets}
    sizes = {f"{d}/{m}": 1000 for d in matrix.matrix.datasets for m in matrix.matrix.models}
    return Probe({"torch": "stand-in"}, (), datasets, sizes)


def training(launcher: StandIn, ask: Ask = answer, *, tries: bool = False) -> Training:
    """The kind `training` with both stand-ins put in place. tries: whether a preview tries a few steps."""
    return Training(ask, in_place_of_all(launcher), tries=tries)


def request(results: Path, prefix: str = "exp", text: str = MATRIX) -> Request:
    """A request for the matrix `text`."""
    source = results.parent / "matrix.toml"
    source.write_text(without_warm_up(text))
    return Request(CampaignPaths(results, prefix), source)


def control(
    launcher: StandIn,
    observer: Observer | None = None,
    stop: StopRequest | None = None,
    ask: Ask = answer,
) -> Control:
    """The way in, with both stand-ins put in place."""
    return Control(
        observer or SilentObserver(),
        StopRequest() if stop is None else stop,
        load_kind=lambda _name: training(launcher, ask),
    )


class StopsAt(SilentObserver):
    """An observer that asks ecrl to stop as soon as a run of this variant (of these suites: '' for all) shows
    progress."""

    def __init__(self, stop: StopRequest, variant: str, signum: int, failure_label: str = "") -> None:
        self.stop, self.variant, self.signum, self.failure_label = stop, variant, signum, failure_label

    def run_progress(self, spec: RunSpec, progress: RunProgress) -> None:
        is_meant = spec.variant == self.variant and self.failure_label in ("", spec.failure_label)
        if is_meant and progress.step >= 3:
            self.stop.request(self.signum)


def main(command: str, results: str, prefix: str, matrix: str, behaviours: str) -> int:
    guard_streams()
    paths, launcher = CampaignPaths(Path(results), prefix), StandIn(json.loads(behaviours))
    try:
        with handle_signals() as stop:
            way_in = control(launcher, ProgressLog(), stop)
            if command == "run":
                return way_in.run(Request(paths, Path(matrix)), Policy(retry_failed=True))
            return way_in.resume(paths, Policy())
    except EcrlError as error:
        print(f"ecrl: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
