"""A campaign: one expansion of a matrix under a prefix. Planned, frozen, and found again."""

import dataclasses
import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from ecrl import __version__
from ecrl.errors import EcrlError, RecordError, did_you_mean
from ecrl.records import manifest
from ecrl.records.manifest import Row
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.spec import matrix as matrix_files
from ecrl.spec.identity import content_hash
from ecrl.spec.matrix import Matrix, Override
from ecrl.spec.run import RunSpec
from ecrl.spec.suite import Suite, block_orders, expand, run_specs
from ecrl.storage.atomic import write_atomic

_MAX_DIFFERENCES = 4
_STORAGE_ERRORS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "not writable",
    errno.EPERM: "not writable",
    errno.EROFS: "a read-only file system",
    errno.ENOTDIR: "not a folder",
    errno.EEXIST: "not a folder",
}


@dataclass(frozen=True)
class Request:
    """What the user asked for. source: the matrix file, or None for the frozen one of the prefix."""

    paths: CampaignPaths
    source: Path | None = None
    profile: str | None = None
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True)
class Campaign:
    """A valid matrix under a prefix, its device decided or still `auto`. origin: comments for the frozen file."""

    paths: CampaignPaths
    matrix: Matrix
    origin: str
    frozen: bool  # the results folder holds a matrix with this experiment already

    @property
    def experiment_hash(self) -> str:
        """SHA-256 of what makes this the experiment it is."""
        return content_hash(self.matrix.experiment)

    @property
    def marker(self) -> Path:
        """What the processes of this campaign carry in their environment: one path, however it was reached."""
        return self.paths.root.resolve()

    @cached_property
    def suites(self) -> list[Suite]:
        """Every suite, in matrix order."""
        return expand(self.matrix)

    @cached_property
    def orders(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """In which order each block runs its variants: drawn from the frozen experiment alone."""
        return block_orders(self.suites, self.experiment_hash)

    @cached_property
    def _claims_hash(self) -> str:
        return self.matrix.claims_hash

    def runs(self, suite: Suite) -> Iterator[tuple[RunSpec, RunPaths]]:
        """The runs of a suite in the order they run: block after block."""
        root = dataclasses.replace(self.paths, results=self.paths.results.resolve())
        for seed in suite.seeds:
            specs = run_specs(
                suite,
                seed,
                self.orders[suite.suite_id, seed],
                prefix=self.paths.prefix,
                device=self.matrix.run.device,
                data_root=self.matrix.run.data_root,
                claims_hash=self._claims_hash,
            )
            for spec in specs:
                yield spec, root.run(suite.suite_id, spec.variant, seed)

    def rows(self) -> list[Row]:
        """A manifest row for every suite, all `pending`."""
        return [
            Row(
                suite_id=s.suite_id,
                dataset=s.dataset,
                model=s.model,
                failure_label=s.failure_label,
                failure_steps=s.failure_steps,
                checkpoint_every=s.checkpoint_every,
                max_inflight=s.max_inflight,
                nproc=s.train.nproc,
                steps=s.train.steps,
                seeds=s.seeds,
                variants=s.variants,
                runs_total=len(s.seeds) * len(s.variants),
            )
            for s in self.suites
        ]

    def on_device(self, device: str) -> "Campaign":
        """The same campaign with its device decided, before it is frozen: `resume` must not decide anew."""
        run = self.matrix.run.model_copy(update={"device": device})
        return dataclasses.replace(self, matrix=self.matrix.model_copy(update={"run": run}))

    def freeze(self) -> None:
        """Write the frozen matrix; the folder is made if it is not there."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        header = (
            f"The frozen matrix of campaign {self.paths.prefix}: `ecrl matrix resume --prefix {self.paths.prefix}`"
            f" reads this and nothing else.\n{self.origin}\n"
            f"ecrl: {__version__}\nfrozen: {stamp}\nexperiment: {self.experiment_hash}"
        )
        write_atomic(self.paths.matrix, self.matrix.to_toml(header).encode())


def requested(request: Request) -> Campaign:
    """Merge and validate what was asked for, and compare it with what the prefix holds already. Writes nothing.

    Raises:
        InvalidMatrixError: the matrix has problems.
        EcrlError: no matrix was named and none is frozen, or the prefix holds another experiment.
    """
    paths, frozen_there = request.paths, request.paths.matrix.is_file()
    if request.source is None:
        if not frozen_there:
            raise EcrlError(_no_matrix(paths))
        _check_profile(request)
    source = request.source or paths.matrix
    matrix = matrix_files.load(
        source,
        profile=None if request.source is None else request.profile,
        overrides=request.overrides,
        frozen=request.source is None,
    )
    if matrix.run.data_root is not None:  # a relative folder means the one seen from here, now
        absolute = str(Path(matrix.run.data_root).expanduser().absolute())
        matrix = matrix.model_copy(update={"run": matrix.run.model_copy(update={"data_root": absolute})})
    campaign = Campaign(paths, matrix, _origin(request), frozen_there)
    if frozen_there:
        frozen = found(paths)
        if matrix.run.device == "auto":  # decided when the prefix was frozen
            campaign = campaign.on_device(frozen.matrix.run.device)
        if differences := matrix_files.differences(frozen.matrix, campaign.matrix):
            raise EcrlError(_other_experiment(paths, differences))
        if request.source is None:
            campaign = dataclasses.replace(campaign, origin=frozen.origin)
    return campaign


def found(paths: CampaignPaths) -> Campaign:
    """The campaign that a prefix holds.

    Raises:
        EcrlError: there is no such prefix.
        RecordError: its frozen matrix was edited.
    """
    if not paths.matrix.is_file():
        raise EcrlError(manifest.no_such_prefix(paths))
    matrix = matrix_files.load(paths.matrix, frozen=True)
    header = _header(paths)
    campaign = Campaign(paths, matrix, "\n".join(f"{k}: {header[k]}" for k in _ORIGIN_KEYS if k in header), True)
    if campaign.experiment_hash != header.get("experiment"):
        raise RecordError(
            f"{paths.matrix}: its content does not match the experiment hash in its header; it was edited or damaged.\n"
            f"Undo the edit, or run the edited matrix under another prefix: ecrl matrix run --prefix {_free(paths)}"
            f" {paths.matrix}"
        )
    return campaign


@contextmanager
def storage(paths: CampaignPaths, next_command: str) -> Iterator[None]:
    """Turn what a disk does to its users (full, not writable) into an error with the next command.

    Raises:
        EcrlError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno not in _STORAGE_ERRORS or not (full or error.filename):
            raise
        where = error.filename or paths.root
        again = f"then type: {next_command}" if paths.matrix.is_file() else "then type the same command again"
        raise EcrlError(
            f"{where}: {_STORAGE_ERRORS[error.errno]}. Expected to write results there; what was finished is kept.\n"
            f"Put that right (or name another folder with --results), {again}"
        ) from error


_ORIGIN_KEYS = ("source", "profile", "overrides")


def _origin(request: Request) -> str:
    lines = [f"source: {request.source}"]
    if request.profile is not None:
        lines.append(f"profile: {request.profile}")
    if request.overrides:
        given = ", ".join(f"{o.source}={_text(o.value)}" for o in request.overrides)
        lines.append(f"overrides: {given}")
    return "\n".join(lines)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _header(paths: CampaignPaths) -> dict[str, str]:
    comments = (line[2:] for line in paths.matrix.read_text().splitlines() if line.startswith("# "))
    return {m[1]: m[2] for m in (re.fullmatch(r"(\w+): (.*)", c) for c in comments) if m}


def _check_profile(request: Request) -> None:
    """A profile is merged when a matrix is frozen; naming the same one again asks for nothing new."""
    used = _header(request.paths).get("profile")
    if request.profile is not None and request.profile != used:
        made = f"was frozen with profile {used}" if used else "was frozen without a profile"
        raise EcrlError(
            f"--profile: found {request.profile!r}, but campaign {request.paths.prefix} {made}.\n"
            f"To run another profile: ecrl matrix run --prefix {_free(request.paths)} --profile {request.profile} FILE"
        )


def _no_matrix(paths: CampaignPaths) -> str:
    shipped = sorted(map(str, Path("matrices").glob("*.toml")))
    choice = f"There are: {', '.join(shipped)}" if shipped else "There are no matrices/*.toml below this folder."
    example = shipped[0] if shipped else "MATRIX.toml"
    return (
        f"MATRIX.toml: found none, and {paths.results}/ holds no campaign {paths.prefix!r}. {choice}\n"
        f"Type: ecrl matrix run --prefix {paths.prefix} {example}"
    )


def _other_experiment(paths: CampaignPaths, differences: list[str]) -> str:
    shown = "; ".join(differences[:_MAX_DIFFERENCES])
    more = len(differences) - _MAX_DIFFERENCES
    return (
        f"--prefix: {paths.prefix!r} holds another experiment (frozen -> asked for): {shown}"
        f"{f'; and {more} more' if more > 0 else ''}.\n"
        f"Expected the same one. Nothing was started. For this one type --prefix {_free(paths)}; to go on with the"
        f" frozen one: ecrl matrix resume --prefix {paths.prefix}"
    )


def _free(paths: CampaignPaths) -> str:
    """A prefix that is not taken: exp4 -> exp4-2."""
    stem = re.sub(r"-\d+$", "", paths.prefix)
    number = 2
    while (paths.results / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def reconciled(campaign: Campaign, rows: dict[str, Row], path: Path) -> dict[str, Row]:
    """The manifest's rows in matrix order, each checked against the suite it names; missing ones are `pending`.

    Raises:
        RecordError: a row says something that the frozen matrix does not.
    """
    expected = {row.suite_id: row for row in campaign.rows()}
    for number, row in enumerate(rows.values(), start=1):
        if row.suite_id not in expected:
            hint = did_you_mean(row.suite_id, expected)
            what = f"a suite of {campaign.paths.matrix.name}.{hint}"
            raise manifest.nonsense(path, number, "suite_id", row.suite_id, what)
        for column in manifest.FIXED:
            is_now, should = getattr(row, column), getattr(expected[row.suite_id], column)
            if is_now != should:
                raise manifest.nonsense(path, number, column, manifest.cell(is_now), repr(manifest.cell(should)))
        if row.runs_done > row.runs_total:
            raise manifest.nonsense(path, number, "runs_done", str(row.runs_done), f"at most {row.runs_total}")
    return {suite_id: rows.get(suite_id, row) for suite_id, row in expected.items()}
