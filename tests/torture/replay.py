"""Expected replay of docs/metrics.md, measured in real runs whose failures are drawn inside intervals.

blocking takes back exactly the drawn phase, step - m*k, whose mean over U{1..k-1} is k/2; overlapped takes back
the same and, where the checkpoint before was still in flight, whole intervals more.
"""

import sys
import tempfile
from itertools import islice
from pathlib import Path
from statistics import fmean

from ecrl.analysis.run.step_history import Loss, build_step_history
from ecrl.config.failure_entry import FailureEntry
from ecrl.config.failure_schedule import build_plan
from ecrl.config.run import RunSpec
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.launch.launchers.cold import Cold
from ecrl.launch.runs.progress import SilentObserver
from ecrl.launch.runs.run import Run
from ecrl.launch.runs.supervisor import Supervisor
from ecrl.launch.system.signals import StopRequest
from ecrl.records.paths import RunPaths
from ecrl.records.reader import read_run
from tests.torture.verdict import Verdict, told


def specified(variant: str, every: int, failures: int, seed: int) -> RunSpec:
    """A run with one failure drawn in each of its intervals but the first."""
    entries = [FailureEntry(interval=m, seed=seed) for m in range(1, failures + 1)]
    return RunSpec(
        prefix="p", suite_id="replay", dataset="fashion-mini", model="cnn", failure_label="drawn",
        checkpoint_every=every, max_inflight=2, variant=variant, seed=1, device="cpu",
        train=TrainSettings(steps=every * (failures + 1), batch_size=8, nproc=2), checkpoint=CheckpointSettings(),
        failures=build_plan(entries, 2, every),
    )  # fmt: skip


def measured(spec: RunSpec, folder: Path) -> tuple[list[Loss], str | None]:
    """What each failure took back, and the reason if the run did not complete."""
    paths = RunPaths(folder / spec.variant)
    result = Supervisor(Cold(), folder, SilentObserver(), StopRequest(), timeout_s=1800).run(Run(spec, paths))
    assert result is not None
    return list(build_step_history(read_run(paths)).rollbacks), result["reason"] or None


def sweep(failures: int = 12, every: int = 8, seed: int = 1) -> Verdict:
    """One run of each engine with so many failures."""
    faults: list[str] = []
    means: dict[str, float] = {}
    phases: list[int] = []
    with tempfile.TemporaryDirectory() as temporary:
        for variant in ("blocking", "overlapped"):
            spec = specified(variant, every, failures, seed)
            phases = [f["at"] % every for f in spec.failures]
            losses, reason = measured(spec, Path(temporary))
            if reason is not None or len(losses) != failures:
                faults.append(f"{variant}: {len(losses)} of {failures} failures struck: {reason}")
                continue
            for phase, loss in zip(phases, losses, strict=True):
                faults += [f"{variant}: {fault}" for fault in _fault(variant, phase, every, loss)]
            means[variant] = fmean(loss.replayed_steps or 0 for loss in losses)
    found = ", ".join(f"{variant} {mean:.2f}" for variant, mean in means.items())
    text = (
        f"mean replay over {failures} drawn failures: {found}; drawn {fmean(phases):.2f}, expected k/2 = {every / 2:g}"
    )
    return Verdict("replay", text, faults, {"drawn": list(islice(phases, 50))})


def _fault(variant: str, phase: int, every: int, loss: Loss) -> list[str]:
    lost = loss.replayed_steps
    if variant == "blocking":
        exact = lost == phase and loss.lost_in_flight_steps == 0
        return [] if exact else [f"took back {lost} at step {loss.completed}, expected {phase}"]
    fits = lost is not None and lost >= phase and (lost - phase) % every == 0
    return [] if fits else [f"took back {lost} at step {loss.completed}, expected {phase} and whole intervals"]


if __name__ == "__main__":
    sys.exit(told(sweep, __doc__, {"failures": 12, "every": 8, "seed": 1}))
