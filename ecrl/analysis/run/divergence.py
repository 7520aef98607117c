"""Differences between a run's losses and its reference's: numbers, no verdict (docs/metrics.md, "Divergence")."""

import math
from dataclasses import dataclass

from ecrl.analysis.run.step_history import StepHistory, same_bits


@dataclass(frozen=True)
class Divergence:
    """Absolute differences of a run's loss from the reference's.

    A loss is the mean over ranks of a step's last execution. Steps at which either run has no finite loss are left out.
    d_end: at the last step. d_max, d_rms: over all compared steps. None if no step can be compared.
    first_divergent_step: the first step at which any rank's loss, finite or not, has different bits; None if there is
    none.
    """

    d_end: float | None
    d_max: float | None
    d_rms: float | None
    first_divergent_step: int | None
    compared_steps: int


def divergence(own: StepHistory, reference: StepHistory, steps: int, nproc: int) -> Divergence:
    """The divergence of `own` from `reference` over steps 1..steps."""
    differences = {}
    for step in range(1, steps + 1):
        a, b = own.mean_loss(step, nproc), reference.mean_loss(step, nproc)
        if a is not None and b is not None and math.isfinite(a) and math.isfinite(b):
            differences[step] = abs(a - b)
    theirs = reference.losses
    divergent = [
        step
        for (rank, step), loss in own.losses.items()
        if (rank, step) in theirs and not same_bits(loss, theirs[rank, step])
    ]
    values = list(differences.values())
    return Divergence(
        differences.get(steps),
        max(values, default=None),
        math.sqrt(math.fsum(d * d for d in values) / len(values)) if values else None,
        min(divergent, default=None),
        len(values),
    )
