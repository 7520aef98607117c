"""`ecrl selftest --device cuda`: the checks of a GPU."""

from functools import partial
from pathlib import Path

import torch

from ecrl.checkpoint.sharded.snapshot import StreamStager
from ecrl.selftest import checks, overlap, sanitizer, streams
from ecrl.selftest.checks import CheckSetup, Delay, Mutant, StagerMaker
from ecrl.selftest.drill import TrainingUnderTest
from ecrl.selftest.progress import no_delay
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

_BATCH_SIZE = 32
_SHORTEST_DELAY_S = 0.02
_DELAY_STEPS = 1.5


class GpuDelays:
    """Delays that are long compared with a step of this GPU."""

    def __init__(self, device: torch.device, step_s: float) -> None:
        self._sleeper = streams.Sleeper(device)
        self.seconds = max(_SHORTEST_DELAY_S, _DELAY_STEPS * step_s)
        self.method = self._sleeper.method

    def __call__(self) -> None:
        self._sleeper.sleep(self.seconds)


def build_stagers(device: torch.device, delay: Delay) -> tuple[StagerMaker, tuple[Mutant, ...]]:
    """The delayed stager and the mutants, each with the delay that must expose it."""

    def make_late_stager(stager: type[streams.LateStreamStager]) -> StagerMaker:
        return lambda progress: stager(device, progress, delay)

    def make_punctual_stager(stager: type[streams.LateStreamStager]) -> StagerMaker:
        return lambda progress: stager(device, progress)

    mutants = (
        Mutant(
            "copy_ignores_update",
            "the copy waiting for the update",
            make_punctual_stager(streams.CopyIgnoresUpdate),
            late_update=delay,
        ),
        Mutant(
            "forward_ignores_copy", "the forward waiting for the buffers", make_late_stager(streams.ForwardIgnoresCopy)
        ),
        Mutant("update_ignores_copy", "the update waiting for the copy", make_late_stager(streams.UpdateIgnoresCopy)),
        Mutant(
            "persister_ignores_copy",
            "the persister waiting for the copy",
            make_late_stager(streams.PersisterIgnoresCopy),
        ),
        Mutant(
            "host_state_copied_late", "host state copied at the call", make_punctual_stager(streams.HostStateCopiedLate)
        ),
        Mutant(
            "busy_slot_taken",
            "snapshots waiting for a free slot",
            make_punctual_stager(streams.LateStreamStager),
            TakesBusySlot,
        ),
    )
    return make_late_stager(streams.LateStreamStager), mutants


def make_setup(model: str, steps: int, folder: Path, *, delayed: bool = True) -> CheckSetup:
    """Train the twins, and choose the delays for the speed of this GPU."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    task = load_subject_task(model, device, _BATCH_SIZE)

    def make_training(optimizer: str) -> TrainingUnderTest:
        known: Optimizer = "sgd" if optimizer == "sgd" else "adamw"
        return RealTraining(task, known, device)

    twins: dict[str, ReferenceTraining] = {
        optimizer: train_reference(make_training(optimizer), steps) for optimizer in OPTIMIZERS
    }
    delay = GpuDelays(device, max(twin.step_s for twin in twins.values())) if delayed else no_delay
    right, mutants = build_stagers(device, delay)
    return CheckSetup(
        device,
        folder,
        make_training,
        twins,
        punctual=lambda _: StreamStager(device),
        right=right,
        mutants=mutants,
        steps=steps,
        delay=delay,
    )


def build_plan(setup: CheckSetup, model: str) -> Plan:
    """The checks in order."""
    for optimizer in OPTIMIZERS:
        yield from build_unmodified_plan(setup, optimizer)
    yield from build_mutants_plan(setup)
    yield from build_disk_plan(setup)
    yield "stream sanitizer", partial(sanitizer.check_sanitizer, sanitizer.command(model))
    yield "overlap with kernels", partial(overlap.check_overlap, lambda: setup.subject("sgd"), setup.new_folder())


def build_unmodified_plan(setup: CheckSetup, optimizer: str) -> Plan:
    """The checks of the production code: without delays, and with each side delayed in turn."""
    right = partial(checks.check_unmodified, setup, optimizer)
    yield f"right code, {optimizer}", partial(right, make_stager=setup.punctual)
    yield f"right code, copies late, {optimizer}", right
    updates_late = partial(right, make_stager=setup.punctual, late_update=setup.delay)
    yield f"right code, updates late, {optimizer}", updates_late
    yield f"right code, persister late, {optimizer}", partial(right, writer_every=1)


def build_mutants_plan(setup: CheckSetup) -> Plan:
    """The checks of the mutants, with AdamW, which also keeps state in host memory."""
    for mutant in setup.mutants:
        yield f"without {mutant.fence}", partial(checks.check_mutant, setup, "adamw", mutant)


def build_disk_plan(setup: CheckSetup) -> Plan:
    """The checks of the files that both engines write."""
    yield "poisoned slots, overlapped", partial(checks.check_on_disk, setup, "adamw", WatchedOverlapped)
    yield "poisoned slots, blocking", partial(checks.check_on_disk, setup, "sgd", WatchedBlocking)
