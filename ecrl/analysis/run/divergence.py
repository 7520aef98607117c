"""How far a run's losses ended up from its reference's: a number, never a verdict (docs/metrics.md, "Divergence")."""

import math
from dataclasses import dataclass

from ecrl.analysis.run.step_history import StepHistory, same_bits


@dataclass(frozen=True)
class Divergence:
    """Differences of the loss (mean over ranks, last execution of every step) from the reference's.

    d_end: at the last step. d_max, d_rms: over all compared steps. None where no step can be compared.
    first_divergent_step: first step at which any rank's loss has other bits; None if there is none.
    """

    d_end: float | None
    d_max: float | None
    d_rms: float | None
    first_divergent_step: int | None
    compared_steps: int


def divergence(own: StepHistory, reference: StepHistory, steps: int, nproc: int) -> Divergence:
    """Divergence of `own` from `reference` over steps 1..steps; steps that either lacks are left out."""
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
