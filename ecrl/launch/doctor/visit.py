"""Checks whether this machine is fit to run a matrix: all checks, or the quick ones before a start."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ecrl.errors import UnfitError
from ecrl.launch.doctor import disk, gpu, host
from ecrl.launch.doctor.finding import OK, UNFIT, Finding, Requirements
from ecrl.launch.system.wait import keep_saying

SCHEMA = 1


def run_checks(
    results: Path, wanted: Requirements | None, say: Callable[[str], None] = lambda _text: None
) -> Iterator[Finding]:
    """All checks; takes a few seconds. The process that loads PyTorch comes last. say: shows what takes long."""
    yield from host.check_host(wanted)
    yield from _keep_saying(results, disk.check_disk(results, wanted), say)
    for place in () if wanted is None else wanted.places:
        yield from _keep_saying(place.folder, disk.check_place(place, wanted), say)
    yield from gpu.check_gpus(wanted, say=say)


def _keep_saying(folder: Path, findings: Iterator[Finding], say: Callable[[str], None]) -> Iterator[Finding]:
    # All of them first: whoever asks for the findings may take its time between two.
    with keep_saying(f"the disk of {folder} to be tried", say):
        found = list(findings)
    yield from found


def quick_checks(results: Path, wanted: Requirements | None) -> list[Finding]:
    """The checks that run before every start: no subprocess, a few milliseconds. Returns only problems."""
    found = [*host.check_host(wanted), *disk.check_behaviour(results)]
    for place in () if wanted is None else wanted.places:
        found += disk.check_place_behaviour(place)
    # The first write reports a full or read-only disk, and it knows what was to be written.
    return [finding for finding in found if finding.state != OK and finding.check != disk.FOLDER]


def raise_if_unfit(found: list[Finding]) -> None:
    """Raise if a finding is `unfit`.

    Raises:
        UnfitError: names the first such finding, and how many more there are.
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
