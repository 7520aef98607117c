"""Is this machine fit to run a matrix? Findings, each with what to do: the whole visit, and in short before a start."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecrl.errors import EXIT_UNFIT, EcrlError

if TYPE_CHECKING:
    from ecrl.launch.campaign.campaign import Campaign
    from ecrl.launch.system.torch_probe import Probe

SCHEMA = 1
OK, WARN, UNFIT = "ok", "warn", "unfit"


class UnfitError(EcrlError):
    """This machine cannot run what was asked for, and a run would only find out later."""

    exit_code = EXIT_UNFIT


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. found: what there is; advice: what to do about it, '' where all is well."""

    check: str
    state: str
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """One entry of `findings`."""
        return {"check": self.check, "state": self.state, "found": self.found, "advice": self.advice or None}


@dataclass(frozen=True)
class Requirements:
    """What a matrix asks of a machine. nproc, threads: of all runs that go on side by side; slots: snapshots in memory
    at once; checkpoint_bytes: the largest; disk_bytes: what stays on disk, with one run going on."""

    device: str
    gpus: tuple[int, ...]
    nproc: int
    threads: int
    slots: int
    checkpoint_bytes: int
    disk_bytes: int


def compute_requirements(campaign: "Campaign", probe: "Probe", disk_bytes: int = 0) -> Requirements:
    """What a campaign needs, from its matrix and the probe's sizes: of as many runs as go on side by side."""
    train, run = campaign.matrix.train_settings, campaign.matrix.run
    return Requirements(
        device=probe.device(run.device),
        gpus=tuple(run.gpus),
        nproc=train.nproc * run.jobs,
        threads=train.nproc * train.threads * run.jobs,
        slots=max(campaign.matrix.matrix.max_inflight) * run.jobs,
        checkpoint_bytes=max(probe.state_bytes.values(), default=0),
        disk_bytes=disk_bytes,
    )


def run_checks(results: Path, wanted: Requirements | None) -> Iterator[Finding]:
    """Everything, the child that loads PyTorch last: a few seconds."""
    from ecrl.launch.doctor import disk, gpu, host

    yield from host.check_host(wanted)
    yield from disk.check_disk(results, wanted)
    yield from gpu.check_gpus(wanted)


def quick_checks(results: Path, wanted: Requirements | None) -> list[Finding]:
    """What takes a few milliseconds and is worth a word before a start: no child, nothing that is well. A full or
    read-only disk is left to whoever writes there first, who knows what was to be written."""
    from ecrl.launch.doctor import disk, host

    found = [*host.check_host(wanted), *disk.check_behaviour(results)]
    return [finding for finding in found if finding.state != OK and finding.check != disk.FOLDER]


def raise_if_unfit(found: list[Finding]) -> None:
    """Raise if one of the findings is `unfit`.

    Raises:
        UnfitError: names the first, and how many more there are.
    """
    unfit = [finding for finding in found if finding.state == UNFIT]
    if unfit:
        more = f" (and {len(unfit) - 1} more)" if len(unfit) > 1 else ""
        first = unfit[0]
        raise UnfitError(
            f"this machine is unfit: {first.check}: {first.found}{more}. Nothing was started.\n"
            f"{first.advice}\nSee everything: ecrl doctor"
        )
