"""Compares the user's request with what the prefix holds: the same experiment, an extension of it, or another one."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ecrl.config import matrix as matrix_files
from ecrl.config.changes import find_additions
from ecrl.config.examples import list_matrix_files
from ecrl.config.frozen import read_header
from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix
from ecrl.config.registration import find_registration, get_registration_path
from ecrl.errors import EcrlError
from ecrl.launch.campaign.campaign import Campaign
from ecrl.launch.campaign.recover import reconcile_rows
from ecrl.launch.campaign.store import compute_frozen_digest, freeze, keep_registration, load_frozen
from ecrl.records.manifest import store as manifest
from ecrl.records.manifest.store import Row
from ecrl.records.paths import CampaignPaths, next_prefix

_MAX_DIFFERENCES = 4


@dataclass(frozen=True)
class Request:
    """What the user asked for.

    source: the matrix file; None: the frozen matrix of the prefix. extend: add what the matrix has beyond the frozen
    one; finished work is kept.
    """

    paths: CampaignPaths
    source: Path | None = None
    profile: str | None = None
    overrides: tuple[Override, ...] = ()
    extend: bool = False


@dataclass(frozen=True)
class ResolvedCampaign:
    """A request after its comparison with what the prefix holds.

    frozen: the campaign that the prefix holds, or None. digest: of the frozen file at the time of the comparison, '' if
    there was none. extends: whether the campaign extends the frozen one.
    """

    request: Request
    campaign: Campaign
    frozen: Campaign | None
    digest: str
    extends: bool

    @property
    def is_new(self) -> bool:
        """Whether the campaign is new or extended, so that this machine was not checked for it yet."""
        return self.frozen is None or self.extends

    @cached_property
    def rows(self) -> Mapping[str, Row]:
        """The rows of the manifest, or those that a new manifest would have; read once."""
        there = self.campaign.paths.manifest
        if self.frozen is not None and there.exists():
            return reconcile_rows(self.campaign, manifest.read(self.campaign.paths).rows, there)
        return {row.suite_id: row for row in self.campaign.rows()}

    def find_unfit_registration(self) -> Path | None:
        """The registration file beside the matrix file, if it registers another matrix."""
        source = self.request.source
        found = find_registration(source)
        if source is None or found is None or found.fits(self.campaign.matrix):
            return None
        return get_registration_path(source)

    def copy_with_device(self, device: str) -> "ResolvedCampaign":
        """A copy with the device decided."""
        return dataclasses.replace(self, campaign=self.campaign.copy_with_device(device))

    def freeze(self) -> "ResolvedCampaign":
        """Write the frozen matrix, unless it exists with the same content. Call it under the prefix's lease.

        Returns this object. If another ecrl has frozen a matrix since it was resolved, returns the request resolved
        again.

        Raises:
            EcrlError: as `resolve_request`, for what the prefix holds now.
        """
        now = self
        if compute_frozen_digest(self.campaign.paths) != self.digest:
            now = resolve_request(self.request)
            if now.campaign.matrix.run.device == "auto":  # the frozen matrix was removed
                now = now.copy_with_device(self.campaign.matrix.run.device)
        if now.frozen is None or now.campaign.matrix != now.frozen.matrix:  # new, or with other [run] options
            freeze(now.campaign, extends=now.extends)
        if now.frozen is None:
            keep_registration(now.campaign, now.request.source)
        return now


def resolve_request(request: Request) -> ResolvedCampaign:
    """Load and validate the requested matrix, and compare it with what the prefix holds. Writes nothing.

    Raises:
        InvalidMatrixError: the matrix has problems.
        EcrlError: no matrix was named and none is frozen; the prefix holds another experiment or profile; or the matrix
            extends the frozen one and the request does not allow it.
    """
    paths = request.paths
    digest = compute_frozen_digest(paths)  # read before the matrix: a change in between then changes the digest
    if request.source is None:
        if not digest:
            raise EcrlError("ECRL-306", _no_matrix_message(paths))
        _check_profile(request)
    frozen = load_frozen(paths) if digest else None
    matrix = _load_matrix(request, frozen)
    if frozen is None:
        return ResolvedCampaign(request, Campaign(paths, matrix, _describe_origin(request)), None, digest, False)
    if matrix.run.device == "auto":  # decided when the prefix was frozen
        matrix = _replace_run_option(matrix, "device", frozen.matrix.run.device)
    if differences := matrix_files.find_differences(frozen.matrix, matrix):
        older = (*frozen.older, frozen.matrix)
        extended = Campaign(paths, matrix, _describe_origin(request), older, frozen.order_rule)
        added = find_additions(frozen.matrix, matrix)
        if added is None:
            raise EcrlError("ECRL-303", _other_experiment_message(paths, differences))
        if not request.extend:
            raise EcrlError("ECRL-304", _extension_message(paths, frozen, extended, added))
        return ResolvedCampaign(request, extended, frozen, digest, True)
    # The order of a table's entries does not change the experiment. It would move suites and change block orders.
    matrix = matrix.model_copy(update={"failures": frozen.matrix.failures, "axes": frozen.matrix.axes})
    origin = frozen.origin if request.source is None else _describe_origin(request)
    campaign = Campaign(paths, matrix, origin, frozen.older, frozen.order_rule)
    return ResolvedCampaign(request, campaign, frozen, digest, False)


def _load_matrix(request: Request, frozen: Campaign | None) -> Matrix:
    """The requested matrix. A data folder that is not frozen is made absolute."""
    if request.source is None and frozen is not None and not request.overrides:
        return frozen.matrix
    matrix = load(
        request.source or request.paths.matrix,
        profile=None if request.source is None else request.profile,
        overrides=request.overrides,
        frozen=request.source is None,
        existing=None if frozen is None else frozen.matrix,
    )
    if matrix.run.data_root is None:
        return matrix
    # a relative folder is relative to the current folder
    return _replace_run_option(matrix, "data_root", str(Path(matrix.run.data_root).expanduser().absolute()))


def _replace_run_option(matrix: Matrix, option: str, value: str) -> Matrix:
    return matrix.model_copy(update={"run": matrix.run.model_copy(update={option: value})})


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
    """Raise if the request names another profile than the frozen matrix was made with."""
    # A profile is merged when a matrix is frozen. Naming the same one again changes nothing.
    used = read_header(request.paths.matrix).get("profile")
    if request.profile is not None and request.profile != used:
        made = f"was frozen with profile {used}" if used else "was frozen without a profile"
        raise EcrlError(
            "ECRL-305",
            f"--profile: found {request.profile!r}, but campaign {request.paths.prefix} {made}.\n"
            f"To run another profile: ecrl matrix run {next_prefix(request.paths).options}"
            f" --profile {shlex.quote(request.profile)} FILE",
        )


def _no_matrix_message(paths: CampaignPaths) -> str:
    there = list_matrix_files()
    choice = f"There are: {', '.join(there)}" if there else "There are no matrices/*.toml below this folder."
    write, example = ("", there[0]) if there else ("ecrl init mine.toml && ", "mine.toml")
    return (
        f"MATRIX.toml: found none, and {paths.results}/ holds no campaign {paths.prefix!r}. {choice}\n"
        f"Type: {write}ecrl matrix run {paths.options} {shlex.quote(example)}"
    )


def _other_experiment_message(paths: CampaignPaths, differences: list[str]) -> str:
    shown = "; ".join(differences[:_MAX_DIFFERENCES])
    more = len(differences) - _MAX_DIFFERENCES
    return (
        f"--prefix: {paths.prefix!r} holds another experiment (frozen -> requested): {shown}"
        f"{f'; and {more} more' if more > 0 else ''}.\n"
        "Expected the frozen one. Nothing was started. To run the requested one, type --prefix"
        f" {next_prefix(paths).prefix}; to continue the frozen one: ecrl matrix resume {paths.options}"
    )


def _extension_message(paths: CampaignPaths, frozen: Campaign, asked: Campaign, added: list[str]) -> str:
    suites = len(asked.suites) - len(frozen.suites)
    more = f"{suites} more" if suites else "more runs"
    return (
        f"--prefix: {paths.prefix!r} holds {len(frozen.suites)} suites of this experiment; requested are {more}"
        f" (new: {'; '.join(added)}). Nothing was started.\n"
        "To add them and keep all results, type the same command with --extend; to continue the frozen one:"
        f" ecrl matrix resume {paths.options}"
    )
