"""`ecrl selftest --device cpu`: the checks of the CPU."""

from functools import partial
from pathlib import Path

import torch

from ecrl.checkpoint.snapshot import ThreadStager
from ecrl.worker.selftest import checks, threads
from ecrl.worker.selftest.checks import Lab, Mutant, StagerMaker
from ecrl.worker.selftest.drill import TakesBusySlot, WatchedBlocking, WatchedOverlapped
from ecrl.worker.selftest.subject import OPTIMIZERS, Optimizer, RealSubject, Twin, load_data, twin_of
from ecrl.worker.selftest.verdict import Plan

_BATCH_SIZE = 2
_MUTANT_STEPS = 3


def make_lab(model: str, steps: int, folder: Path) -> Lab:
    """Train the twins, and fit the delays to the speed of this machine."""
    device = torch.device("cpu")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    data = load_data()

    def subject(optimizer: str) -> RealSubject:
        return RealSubject(model, _known(optimizer), device, data, _BATCH_SIZE)

    twins: dict[str, Twin] = {optimizer: twin_of(subject(optimizer), steps) for optimizer in OPTIMIZERS}
    patience_s = max(twin.update_s for twin in twins.values()) + 0.01

    def late(stager: type[threads.LateThreadStager]) -> StagerMaker:
        return lambda progress: stager(progress, patience_s)

    mutants = (
        Mutant("update_ignores_copy", "the update waiting for the copy", late(threads.UpdateIgnoresCopy)),
        Mutant("buffers_copied_late", "buffers copied at the call", late(threads.BuffersCopiedLate)),
        Mutant("generators_read_late", "generators read at the call", late(threads.GeneratorsReadLate)),
        Mutant("persister_ignores_copy", "the persister waiting for the copy", late(threads.PersisterIgnoresCopy)),
        Mutant("busy_slot_taken", "snapshots waiting for a free slot", late(threads.LateThreadStager), TakesBusySlot),
    )
    return Lab(
        device,
        folder,
        subject,
        twins,
        punctual=lambda _: ThreadStager(),
        right=late(threads.LateThreadStager),
        mutants=mutants,
        steps=steps,
        mutant_steps=min(steps, _MUTANT_STEPS),
        disk_steps=min(steps, 3),
    )


def _known(optimizer: str) -> Optimizer:
    return "sgd" if optimizer == "sgd" else "adamw"


def plan(lab: Lab) -> Plan:
    """The checks in order."""
    for optimizer in OPTIMIZERS:
        name = f"right code, copies late, {optimizer}"
        yield name, partial(checks.right, lab, optimizer, must_hold=True, writer_every=2)
    for mutant in lab.mutants:
        yield f"without {mutant.fence}", partial(checks.mutant, lab, "sgd", mutant)
    yield "poisoned slots, overlapped", partial(checks.on_disk, lab, "adamw", WatchedOverlapped)
    yield "poisoned slots, blocking", partial(checks.on_disk, lab, "sgd", WatchedBlocking)
