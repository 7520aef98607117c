"""`ecrl selftest --device cuda`: the checks of a GPU."""

from functools import partial
from pathlib import Path

import torch

from ecrl.checkpoint.snapshot import StreamStager
from ecrl.worker.selftest import checks, overlap, sanitizer, streams
from ecrl.worker.selftest.checks import Delay, Lab, Mutant, StagerMaker
from ecrl.worker.selftest.drill import Subject, TakesBusySlot, WatchedBlocking, WatchedOverlapped, nothing
from ecrl.worker.selftest.subject import OPTIMIZERS, Optimizer, RealSubject, Twin, load_data, twin_of
from ecrl.worker.selftest.verdict import Plan

_BATCH_SIZE = 32
_SHORTEST_DELAY_S = 0.02
_DELAY_STEPS = 1.5


class GpuDelays:
    """Delays long beside a step of this GPU."""

    def __init__(self, device: torch.device, step_s: float) -> None:
        self._sleeper = streams.Sleeper(device)
        self.seconds = max(_SHORTEST_DELAY_S, _DELAY_STEPS * step_s)
        self.method = self._sleeper.method

    def __call__(self) -> None:
        self._sleeper.sleep(self.seconds)


def stagers(device: torch.device, delay: Delay) -> tuple[StagerMaker, tuple[Mutant, ...]]:
    """The late stager, and the mutants, each with the delay that must make it show."""

    def late(stager: type[streams.LateStreamStager]) -> StagerMaker:
        return lambda progress: stager(device, progress, delay)

    def punctual(stager: type[streams.LateStreamStager]) -> StagerMaker:
        return lambda progress: stager(device, progress)

    mutants = (
        Mutant(
            "copy_ignores_update",
            "the copy waiting for the update",
            punctual(streams.CopyIgnoresUpdate),
            late_update=delay,
        ),
        Mutant("forward_ignores_copy", "the forward waiting for the buffers", late(streams.ForwardIgnoresCopy)),
        Mutant("update_ignores_copy", "the update waiting for the copy", late(streams.UpdateIgnoresCopy)),
        Mutant("persister_ignores_copy", "the persister waiting for the copy", late(streams.PersisterIgnoresCopy)),
        Mutant("host_state_copied_late", "host state copied at the call", punctual(streams.HostStateCopiedLate)),
        Mutant(
            "busy_slot_taken", "snapshots waiting for a free slot", punctual(streams.LateStreamStager), TakesBusySlot
        ),
    )
    return late(streams.LateStreamStager), mutants


def make_lab(model: str, steps: int, folder: Path, *, delayed: bool = True) -> Lab:
    """Train the twins, and fit the delays to the speed of this GPU."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    data = load_data()

    def subject(optimizer: str) -> Subject:
        known: Optimizer = "sgd" if optimizer == "sgd" else "adamw"
        return RealSubject(model, known, device, data, _BATCH_SIZE)

    twins: dict[str, Twin] = {optimizer: twin_of(subject(optimizer), steps) for optimizer in OPTIMIZERS}
    delay = GpuDelays(device, max(twin.step_s for twin in twins.values())) if delayed else nothing
    right, mutants = stagers(device, delay)
    return Lab(
        device,
        folder,
        subject,
        twins,
        punctual=lambda _: StreamStager(device),
        right=right,
        mutants=mutants,
        steps=steps,
        delay=delay,
    )


def plan(lab: Lab, model: str) -> Plan:
    """The checks in order."""
    for optimizer in OPTIMIZERS:
        yield from right_plan(lab, optimizer)
    yield from mutants_plan(lab)
    yield from disk_plan(lab)
    yield "stream sanitizer", partial(sanitizer.check, sanitizer.command(model))
    yield "overlap with kernels", partial(overlap.check, lambda: lab.subject("sgd"), lab.new_folder())


def right_plan(lab: Lab, optimizer: str) -> Plan:
    """The production code at its own speed, and with each side late in turn."""
    right = partial(checks.right, lab, optimizer)
    yield f"right code, {optimizer}", partial(right, make_stager=lab.punctual)
    yield f"right code, copies late, {optimizer}", right
    updates_late = partial(right, make_stager=lab.punctual, late_update=lab.delay)
    yield f"right code, updates late, {optimizer}", updates_late
    yield f"right code, persister late, {optimizer}", partial(right, writer_every=1)


def mutants_plan(lab: Lab) -> Plan:
    """One fence after the other left out; AdamW, because it keeps state in host memory too."""
    for mutant in lab.mutants:
        yield f"without {mutant.fence}", partial(checks.mutant, lab, "adamw", mutant)


def disk_plan(lab: Lab) -> Plan:
    """What both engines write."""
    yield "poisoned slots, overlapped", partial(checks.on_disk, lab, "adamw", WatchedOverlapped)
    yield "poisoned slots, blocking", partial(checks.on_disk, lab, "sgd", WatchedBlocking)
