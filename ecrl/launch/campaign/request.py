"""What the user asked for, compared with what the prefix holds: the same experiment, more of it, or another one."""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecrl.config import matrix as matrix_files
from ecrl.config.changes import find_additions
from ecrl.config.load import Override, load
from ecrl.errors import EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.store import load_frozen, next_prefix, read_header
from ecrl.records.paths import CampaignPaths

_MAX_DIFFERENCES = 4


@dataclass(frozen=True)
class Request:
    """What the user asked for. source: the matrix file, or None for the frozen one of the prefix.
    extend: add what the matrix has more than the frozen one; what is done stays done."""

    paths: CampaignPaths
    source: Path | None = None
    profile: str | None = None
    overrides: tuple[Override, ...] = ()
    extend: bool = False


def resolve_request(request: Request) -> Campaign:
    """Merge and validate what was asked for, and compare it with what the prefix holds already. Writes nothing.

    Raises:
        InvalidMatrixError: the matrix has problems.
        EcrlError: no matrix was named and none is frozen, or the prefix holds another experiment.
    """
    paths, frozen_there = request.paths, request.paths.matrix.is_file()
    if request.source is None:
        if not frozen_there:
            raise EcrlError(_no_matrix_message(paths))
        _check_profile(request)
    frozen = load_frozen(paths) if frozen_there else None
    source = request.source or paths.matrix
    matrix = load(
        source,
        profile=None if request.source is None else request.profile,
        overrides=request.overrides,
        frozen=request.source is None,
        existing=None if frozen is None else frozen.matrix,
    )
    if matrix.run.data_root is not None:  # a relative folder means the one seen from here, now
        absolute = str(Path(matrix.run.data_root).expanduser().absolute())
        matrix = matrix.model_copy(update={"run": matrix.run.model_copy(update={"data_root": absolute})})
    campaign = Campaign(paths, matrix, _describe_origin(request), frozen_there)
    if frozen is not None:
        if matrix.run.device == "auto":  # decided when the prefix was frozen
            campaign = campaign.copy_with_device(frozen.matrix.run.device)
        campaign = dataclasses.replace(campaign, older=frozen.older)
        if differences := matrix_files.find_differences(frozen.matrix, campaign.matrix):
            added = find_additions(frozen.matrix, campaign.matrix)
            if added is None:
                raise EcrlError(_other_experiment_message(paths, differences))
            if not request.extend:
                raise EcrlError(_extension_message(paths, frozen, campaign, added))
            return dataclasses.replace(campaign, older=(*frozen.older, frozen.matrix), extends=True)
        # A table's order makes no other experiment, but the places of suites and with them the orders of blocks.
        kept = campaign.matrix.model_copy(update={"failures": frozen.matrix.failures})
        campaign = dataclasses.replace(campaign, matrix=kept)
        if request.source is None:
            campaign = dataclasses.replace(campaign, origin=frozen.origin)
    return campaign


def _describe_origin(request: Request) -> str:
    lines = [f"source: {request.source}"]
    if request.profile is not None:
        lines.append(f"profile: {request.profile}")
    if request.overrides:
        given = ", ".join(f"{o.source}={_text(o.value)}" for o in request.overrides)
        lines.append(f"overrides: {given}")
    return "\n".join(lines)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _check_profile(request: Request) -> None:
    """A profile is merged when a matrix is frozen; naming the same one again asks for nothing new."""
    used = read_header(request.paths).get("profile")
    if request.profile is not None and request.profile != used:
        made = f"was frozen with profile {used}" if used else "was frozen without a profile"
        raise EcrlError(
            f"--profile: found {request.profile!r}, but campaign {request.paths.prefix} {made}.\n"
            f"To run another profile: ecrl matrix run {next_prefix(request.paths).options}"
            f" --profile {shlex.quote(request.profile)} FILE"
        )


def _no_matrix_message(paths: CampaignPaths) -> str:
    shipped = sorted(map(str, Path("matrices").glob("*.toml")))
    choice = f"There are: {', '.join(shipped)}" if shipped else "There are no matrices/*.toml below this folder."
    example = shipped[0] if shipped else "MATRIX.toml"
    return (
        f"MATRIX.toml: found none, and {paths.results}/ holds no campaign {paths.prefix!r}. {choice}\n"
        f"Type: ecrl matrix run {paths.options} {shlex.quote(example)}"
    )


def _other_experiment_message(paths: CampaignPaths, differences: list[str]) -> str:
    shown = "; ".join(differences[:_MAX_DIFFERENCES])
    more = len(differences) - _MAX_DIFFERENCES
    return (
        f"--prefix: {paths.prefix!r} holds another experiment (frozen -> asked for): {shown}"
        f"{f'; and {more} more' if more > 0 else ''}.\n"
        f"Expected the same one. Nothing was started. For this one type --prefix {next_prefix(paths).prefix}; to go"
        f" on with the frozen one: ecrl matrix resume {paths.options}"
    )


def _extension_message(paths: CampaignPaths, frozen: Campaign, asked: Campaign, added: list[str]) -> str:
    suites = len(asked.suites) - len(frozen.suites)
    more = f"{suites} more" if suites else "more runs of them"
    return (
        f"--prefix: {paths.prefix!r} holds {len(frozen.suites)} suites of this experiment; asked for are {more}"
        f" (new: {'; '.join(added)}). Nothing was started.\n"
        "To add what is new, rerunning nothing, type the same command with --extend; to go on with the frozen one:"
        f" ecrl matrix resume {paths.options}"
    )
