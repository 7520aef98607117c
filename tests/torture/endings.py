"""Short uninterrupted runs under cold torchrun, one after another: each must be completed, with exit code 0.

    python -m tests.torture.endings --runs 300

Threads of gloo that outlive their group once ended about 1 finished rank in 65 with SIGABRT.
"""

import sys
import tempfile
from pathlib import Path

from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from tests.torture.verdict import Verdict, told


def spec(seed: int) -> RunSpec:
    """Two ranks, two steps: as little between the start and the end of a group as there can be."""
    return RunSpec(
        prefix="endings",
        suite_id="endings",
        dataset="fashion-mini",
        model="cnn",
        failure_label="none",
        checkpoint_every=1,
        max_inflight=1,
        variant="reference",
        seed=seed,
        device="cpu",
        train=TrainSettings(steps=2, batch_size=2, nproc=2),
        checkpoint=CheckpointSettings(),
        failures=(),
    )


def sweep(runs: int) -> Verdict:
    """Run them; every ending other than completed with exit code 0 is a fault."""
    faults = []
    with tempfile.TemporaryDirectory(prefix="ecrl-endings-") as folder:
        supervisor = Supervisor(Cold(), Path(folder), SilentObserver(), StopRequest())
        for seed in range(runs):
            result = supervisor.run(Run(spec(seed), RunPaths(Path(folder) / f"seed{seed}")))
            assert result is not None, "nothing asked it to stop"
            if (result["outcome"], result["exit_code"]) != ("completed", 0):
                faults.append(f"run {seed}: {result['outcome']}, exit code {result['exit_code']}: {result['reason']}")
    return Verdict("endings", f"{runs} runs, {len(faults)} ended in another way than completed, exit code 0", faults)


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__ or "", {"runs": 300}))
