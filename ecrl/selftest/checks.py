"""The checks for every device: the right code with delays, the files on disk, and the mutants."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ecrl.checkpoint.sharded.snapshot import Stager
from ecrl.selftest import drill
from ecrl.selftest.drill import TrainingUnderTest
from ecrl.selftest.progress import Progress, no_delay
from ecrl.selftest.subject import ReferenceTraining
from ecrl.selftest.verdict import INCONCLUSIVE, PASS, TORN, WRONG, CheckResult
from ecrl.selftest.watched import Outcome, StressPlan, TakesBusySlot, WatchedBlocking, WatchedEngine, WatchedOverlapped
from ecrl.units import format_bytes, format_count

StagerMaker = Callable[[Progress], Stager]
Delay = Callable[[], None]


@dataclass(frozen=True)
class Mutant:
    """The production code without one fence, and the delay that must expose it. fence: the missing fence."""

    name: str
    fence: str
    make_stager: StagerMaker
    engine: type[WatchedEngine] = WatchedOverlapped
    late_update: Delay = no_delay


@dataclass(frozen=True)
class CheckSetup:
    """The inputs of the checks of one device.

    subject(optimizer): a new run from the first step. twins: by optimizer. punctual: the unmodified production stager.
    right: the same stager with delays. delay: queues a delay on a stream. steps: the steps of a drill with the right
    code; mutant_steps, disk_steps: those of the other drills. handed_over_late: see `StressPlan`.
    """

    device: torch.device
    folder: Path
    subject: Callable[[str], TrainingUnderTest]
    twins: dict[str, ReferenceTraining]
    punctual: StagerMaker
    right: StagerMaker
    mutants: tuple[Mutant, ...]
    steps: int
    delay: Delay = no_delay
    mutant_steps: int = 4
    disk_steps: int = 3
    handed_over_late: bool = False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def run(self, optimizer: str, planned: StressPlan) -> Outcome:
        """Run a drill on a new subject."""
        return drill.run_stress(planned, self.subject(optimizer), self.twins[optimizer].leaves, self.new_folder())

    def new_folder(self) -> Path:
        """A folder that does not exist yet."""
        return self.folder / f"drill-{next(self._numbers)}"


def check_unmodified(
    setup: CheckSetup,
    optimizer: str,
    *,
    make_stager: StagerMaker | None = None,
    must_hold: bool = False,
    **late: Any,
) -> CheckResult:
    """Check that every snapshot of the production code, with the given delays, is the state after its step.

    must_hold: training must have waited at a fence on the host; otherwise the copy was never late.
    """
    planned = StressPlan(make_stager or setup.right, WatchedOverlapped, setup.steps, **late)
    if setup.handed_over_late:
        planned = replace(planned, handed_over_late=True)
    outcome = setup.run(optimizer, planned)
    finding = _judge(outcome, setup.steps, setup.twins[optimizer])
    if finding.verdict == PASS and must_hold and not outcome.held:
        return replace(finding, verdict=INCONCLUSIVE, evidence="no copy was late: training never waited at a fence")
    return finding


def check_on_disk(setup: CheckSetup, optimizer: str, engine: type[WatchedEngine]) -> CheckResult:
    """Check that a committed checkpoint contains the state and no poison. Slots are poisoned before each snapshot."""
    make_stager = (
        setup.punctual if issubclass(engine, WatchedBlocking) else setup.right
    )  # nothing overlaps that could wait
    outcome = setup.run(optimizer, StressPlan(make_stager, engine, setup.disk_steps, to_disk=True))
    finding = _judge(outcome, setup.disk_steps, setup.twins[optimizer])
    if finding.verdict == PASS and outcome.num_poisoned:
        return replace(finding, verdict=TORN, evidence=f"poison in {outcome.num_poisoned} of {outcome.compared} shards")
    if finding.verdict == PASS:
        size = format_bytes(outcome.payload_bytes)
        evidence = f"{outcome.compared} shards of {size} read back equal the blocking copies; no poison in them"
        return replace(finding, evidence=evidence)
    return finding


def check_mutant(setup: CheckSetup, optimizer: str, broken: Mutant) -> CheckResult:
    """Check that a mutant's snapshots are found to be torn. Otherwise the checks cannot detect torn snapshots."""
    late = setup.handed_over_late and broken.engine is not TakesBusySlot
    planned = StressPlan(
        broken.make_stager, broken.engine, setup.mutant_steps, broken.late_update, handed_over_late=late
    )
    outcome = setup.run(optimizer, planned)
    details = _details(outcome, setup.twins[optimizer])
    if outcome.torn:
        names = {n for torn in outcome.torn.values() for n in torn}
        poison = f", {outcome.num_poisoned} with poison in them" if outcome.num_poisoned else ""
        tensors = format_count(len(names), "tensor")
        evidence = f"seen torn in {len(outcome.torn)} of {outcome.compared} snapshots ({tensors}){poison}"
        return CheckResult(PASS, evidence, details)
    evidence = f"{outcome.compared} snapshots, none seen torn: this check cannot see that fence missing here"
    return CheckResult(INCONCLUSIVE, evidence, details)


def _judge(outcome: Outcome, steps: int, twin: ReferenceTraining) -> CheckResult:
    details = _details(outcome, twin)
    if outcome.diverged:
        evidence = (
            f"training did not repeat itself: after step {steps} {len(outcome.diverged)} tensors differ from the"
            f" twin's, e.g. {outcome.diverged[0]}"
        )
        return CheckResult(INCONCLUSIVE, evidence, details)
    if outcome.torn:
        step, names = next(iter(sorted(outcome.torn.items())))
        poison = f"; poison in {outcome.num_poisoned}" if outcome.num_poisoned else ""
        evidence = (
            f"{len(outcome.torn)} of {outcome.compared} snapshots are not the state after their step;"
            f" step {step}: {len(names)} tensors, e.g. {names[0]}{poison}"
        )
        return CheckResult(TORN, evidence, details)
    if outcome.faults:
        return CheckResult(WRONG, outcome.faults[0], details)
    if outcome.compared != steps:
        return CheckResult(INCONCLUSIVE, f"only {outcome.compared} of {steps} snapshots were compared", details)
    if outcome.overdue:
        return CheckResult(INCONCLUSIVE, f"{outcome.overdue} delays never met what they waited for", details)
    size, held = format_bytes(outcome.payload_bytes), f"; the fence held {outcome.held}" if outcome.held else ""
    evidence = f"{outcome.compared} of {steps} snapshots of {size} equal the blocking copies{held}"
    return CheckResult(PASS, evidence, details)


def _details(outcome: Outcome, twin: ReferenceTraining) -> dict[str, Any]:
    return {
        "compared": outcome.compared,
        "torn": {str(step): len(names) for step, names in sorted(outcome.torn.items())},
        "torn_tensors": sorted({n for torn in outcome.torn.values() for n in torn})[:20],
        "poisoned": outcome.num_poisoned,
        "payload_bytes": outcome.payload_bytes,
        "fence_waits": outcome.held,
        "overdue_delays": outcome.overdue,
        "tensors": len(next(iter(twin.leaves.values()))),
        "tensors_changing_every_step": twin.num_changing,
    }
