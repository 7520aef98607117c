"""Is this machine fit to run a matrix? Findings, each with what to do: the whole visit, and in short before a start."""

from collections.abc import Iterator
from pathlib import Path

from ecrl.errors import EXIT_UNFIT, EcrlError
from ecrl.launch.doctor import disk, gpu, host
from ecrl.launch.doctor.finding import OK, UNFIT, Finding, Requirements

SCHEMA = 1


class UnfitError(EcrlError):
    """This machine cannot run what was asked for, and a run would only find out later."""

    exit_code = EXIT_UNFIT


def run_checks(results: Path, wanted: Requirements | None) -> Iterator[Finding]:
    """Everything, the child that loads PyTorch last: a few seconds."""
    yield from host.check_host(wanted)
    yield from disk.check_disk(results, wanted)
    yield from gpu.check_gpus(wanted)


def quick_checks(results: Path, wanted: Requirements | None) -> list[Finding]:
    """What takes a few milliseconds and is worth a word before a start: no child, nothing that is well. A full or
    read-only disk is left to whoever writes there first, who knows what was to be written."""
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
            "ECRL-501",
            f"this machine is unfit: {first.check}: {first.found}{more}. Nothing was started.\n"
            f"{first.advice}\nSee everything: ecrl doctor",
        )
