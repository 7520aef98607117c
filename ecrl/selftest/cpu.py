"""`ecrl selftest --device cpu`: the checks of the CPU."""

from functools import partial
from pathlib import Path

import torch

from ecrl.checkpoint.sharded.snapshot import ThreadStager
from ecrl.selftest import checks, threads
from ecrl.selftest.checks import CheckSetup, Mutant, StagerMaker
from ecrl.selftest.subject import (
    OPTIMIZERS,
    Optimizer,
    RealTraining,
    ReferenceTraining,
    load_subject_task,
    train_reference,
)
from ecrl.selftest.verdict import Plan
from ecrl.selftest.watched import TakesBusySlot, WatchedBlocking, WatchedOverlapped

_BATCH_SIZE = 2
_MUTANT_STEPS = 3


def make_setup(model: str, steps: int, folder: Path) -> CheckSetup:
    """Train the twins, and choose the delays for the speed of this machine."""
    device = torch.device("cpu")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    task = load_subject_task(model, device, _BATCH_SIZE)

    def make_training(optimizer: str) -> RealTraining:
        return RealTraining(task, _check_optimizer(optimizer), device)

    twins: dict[str, ReferenceTraining] = {
        optimizer: train_reference(make_training(optimizer), steps) for optimizer in OPTIMIZERS
    }
    patience_s = max(twin.update_s for twin in twins.values()) + 0.01

    def make_late_stager(stager: type[threads.LateThreadStager]) -> StagerMaker:
        return lambda progress: stager(progress, patience_s)

    mutants = (
        Mutant("update_ignores_copy", "the update waiting for the copy", make_late_stager(threads.UpdateIgnoresCopy)),
        Mutant("buffers_copied_late", "buffers copied at the call", make_late_stager(threads.BuffersCopiedLate)),
        Mutant("generators_read_late", "generators read at the call", make_late_stager(threads.GeneratorsReadLate)),
        Mutant(
            "persister_ignores_copy",
            "the persister waiting for the copy",
            make_late_stager(threads.PersisterIgnoresCopy),
        ),
        Mutant(
            "busy_slot_taken",
            "snapshots waiting for a free slot",
            make_late_stager(threads.LateThreadStager),
            TakesBusySlot,
        ),
    )
    return CheckSetup(
        device,
        folder,
        make_training,
        twins,
        punctual=lambda _: ThreadStager(),
        right=make_late_stager(threads.LateThreadStager),
        mutants=mutants,
        steps=steps,
        mutant_steps=min(steps, _MUTANT_STEPS),
        disk_steps=min(steps, 3),
    )


def _check_optimizer(optimizer: str) -> Optimizer:
    return "sgd" if optimizer == "sgd" else "adamw"


def build_plan(setup: CheckSetup) -> Plan:
    """The checks in order."""
    for optimizer in OPTIMIZERS:
        name = f"right code, copies late, {optimizer}"
        yield name, partial(checks.check_unmodified, setup, optimizer, must_hold=True, writer_every=2)
    for mutant in setup.mutants:
        yield f"without {mutant.fence}", partial(checks.check_mutant, setup, "sgd", mutant)
    yield "poisoned slots, overlapped", partial(checks.check_on_disk, setup, "adamw", WatchedOverlapped)
    yield "poisoned slots, blocking", partial(checks.check_on_disk, setup, "sgd", WatchedBlocking)
