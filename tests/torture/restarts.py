"""Kill to first new step, cold against warm, interleaved (warm <= 0.5 s and <= 0.25x cold, 2 ranks).

`python -m tests.torture.restarts --rounds N`: each round is one run of each model under each launcher, two kills
a run. A restart counts from the kill to the instant at which the last rank begins its first step.
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

from ecrl.analysis.run.restarts import PHASES, Restart, restarts
from ecrl.analysis.run.timeline import timeline
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.runs.launcher import LauncherPool
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import RunRecord, read_run
from tests.torture.verdict import Verdict, told

LAUNCHERS = ("cold", "warm")
MOST_S, MOST_SHARE = 0.5, 0.25


def specified(model: str, launcher: str) -> RunSpec:
    """A run of 12 steps with a checkpoint every 4, killed after steps 6 and 10."""
    kills = tuple({"index": i, "at": at, "kind": "kill", "rank": i} for i, at in enumerate((6, 10)))
    return RunSpec(
        prefix="p", suite_id="restarts", dataset="fashion-mini", model=model, failure_label="two",
        checkpoint_every=4, max_inflight=2, variant="overlapped", seed=1, device="cpu",
        train=TrainSettings(steps=12, batch_size=8, nproc=2, launcher="warm" if launcher == "warm" else "cold"),
        checkpoint=CheckpointSettings(), failures=kills,
    )  # fmt: skip


class Measured:
    """What the runs of one model under one launcher took."""

    def __init__(self) -> None:
        self.restarts: list[Restart] = []
        self.startups_s: list[float] = []
        self.walls_s: list[float] = []
        self.digests: set[str] = set()

    def add(self, record: RunRecord) -> None:
        """Take in a completed run."""
        line, _ = timeline(record)
        assert line is not None
        self.restarts += restarts(record, line)
        self.startups_s.append(line.ledger_s()["startup"])
        self.walls_s.append(line.wall_s)
        self.digests |= {e["digest"] for _, rank, e in record.get_events("final") if rank == 0}

    @property
    def total_s(self) -> float:
        """Median from kill to first new step."""
        return median(r.total_s for r in self.restarts if r.total_s is not None)

    def table_row(self) -> str:
        """Medians, in seconds."""
        phases = [[r.seconds[p] for r in self.restarts] for p in PHASES]
        cells = [f"{median(s for s in own if s is not None):8.3f}" for own in phases]
        ends = median(r.first_step_s for r in self.restarts if r.first_step_s is not None)
        rest = "  ".join(f"{s:.2f}" for s in self.startups_s)
        return f"{''.join(f'{c:>11}' for c in cells)}{self.total_s:>9.3f}{ends:>9.3f}   start-up {rest}"


def sweep(rounds: int = 3, models: Sequence[str] = ("cnn", "resnet18")) -> Verdict:
    """Run everything; the verdict judges the medians."""
    found = {(model, launcher): Measured() for model in models for launcher in LAUNCHERS}
    faults: list[str] = []
    loads = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as temporary, closing(LauncherPool(None)) as launchers:
        for number in range(rounds):
            for model, launcher in found:
                paths = RunPaths(Path(temporary) / f"{model}-{launcher}-{number}")
                run = Run(specified(model, launcher), paths)
                starter = launchers.get_launcher(run)
                supervisor = Supervisor(starter, Path(temporary), SilentObserver(), StopRequest(), timeout_s=600)
                result = supervisor.run(run)
                assert result is not None
                if result["outcome"] == "completed":
                    found[model, launcher].add(read_run(paths))
                else:
                    faults.append(f"{model} {launcher}: {result['reason']}")
            loads.append(os.getloadavg()[0])
    print(f"{'':15}{''.join(f'{p:>11}' for p in PHASES)}{'total':>9}{'+ step':>9}   (medians, s)")
    for (model, launcher), measured in found.items():
        if measured.restarts:
            print(f"{model:>9} {launcher} {measured.table_row()}")
    print(f"restarts each: {2 * rounds}; one-minute load: {', '.join(f'{load:.1f}' for load in loads)}")
    shown = []
    for model in models:
        cold, warm = found[model, "cold"], found[model, "warm"]
        if not cold.restarts or not warm.restarts:
            continue
        shown.append(f"{model} {warm.total_s:.3f} s, {warm.total_s / cold.total_s:.3f}x cold ({cold.total_s:.2f} s)")
        if warm.total_s > MOST_S or warm.total_s > MOST_SHARE * cold.total_s:
            faults.append(f"{shown[-1]}: expected at most {MOST_S} s and {MOST_SHARE}x")
        if len(cold.digests | warm.digests) != 1:
            faults.append(f"{model}: cold and warm runs end with different digests")
    return Verdict("restarts", "; ".join(shown), faults)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"rounds": 3}))
