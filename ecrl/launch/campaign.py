"""A campaign: one expansion of a matrix under a prefix. Planned, frozen, and found again."""

import dataclasses
import errno
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from ecrl import __version__
from ecrl.errors import EcrlError, RecordError, did_you_mean
from ecrl.records import manifest
from ecrl.records.lazy import Rows
from ecrl.records.manifest import Row
from ecrl.records.paths import CampaignPaths, RunPaths
from ecrl.spec import matrix as matrix_files
from ecrl.spec.extend import additions
from ecrl.spec.identity import content_hash
from ecrl.spec.matrix import Matrix, Override
from ecrl.spec.run import RunSpec
from ecrl.spec.suite import (
    REFERENCE,
    REPEAT,
    Hand,
    Suite,
    Suites,
    expand,
    extended_orders,
    run_specs,
    with_repeat,
)
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
    errno.ELOOP: "a link to itself",
    errno.ENOENT: "gone while ecrl worked on it",
}


@dataclass(frozen=True)
class Request:
    """What the user asked for. source: the matrix file, or None for the frozen one of the prefix.
    extend: add what the matrix has more than the frozen one; what is done stays done."""

    paths: CampaignPaths
    source: Path | None = None
    profile: str | None = None
    overrides: tuple[Override, ...] = ()
    extend: bool = False


@dataclass(frozen=True)
class Campaign:
    """A valid matrix under a prefix, its device decided or still `auto`. origin: comments for the frozen file.
    older: the matrices that were frozen before it and that it extends, oldest first."""

    paths: CampaignPaths
    matrix: Matrix
    origin: str
    frozen: bool  # the results folder holds a matrix with this experiment, or one that it extends, already
    older: tuple[Matrix, ...] = ()
    extends: bool = False  # the frozen matrix is the last of `older`: freeze this one

    @cached_property
    def experiment_hash(self) -> str:
        """SHA-256 of what makes this the experiment it is."""
        return content_hash(self.matrix.experiment)

    @property
    def rows_hash(self) -> str:
        """What decides the rows: the experiment, and whether the reference is repeated."""
        return self.experiment_hash + ("+aa" if self.matrix.run.aa else "")

    @property
    def marker(self) -> Path:
        """What the processes of this campaign carry in their environment: one path, however it was reached."""
        return self.paths.root.resolve()

    @cached_property
    def suites(self) -> Suites:
        """Every suite, in matrix order, each made when it is asked for."""
        return expand(self.matrix)

    def suite(self, suite_id: str, place: int = 0) -> Suite:
        """The suite of this id. place: where it stands in the matrix, as far as the caller knows.

        Raises:
            KeyError: the matrix has no such suite.
        """
        if place < len(self.suites) and (suite := self.suites[place]).suite_id == suite_id:
            return suite
        return self.suites[self._places[suite_id]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {suite.suite_id: place for place, suite in enumerate(self.suites)}

    @cached_property
    def orders(self) -> dict[tuple[str, int], tuple[str, ...]]:
        """In which order each block runs its variants: drawn from the frozen experiment alone, and kept by what
        extends it."""
        generations = [(expand(matrix), content_hash(matrix.experiment)) for matrix in self.older]
        return extended_orders([*generations, (self.suites, self.experiment_hash)])

    @cached_property
    def _hand(self) -> Hand:
        return Hand(self.experiment_hash, tuple(self.matrix.matrix.variants))

    def _order(self, suite: Suite, seed: int) -> tuple[str, ...]:
        """As `orders` has it; of a matrix that extends none, without looking at every suite."""
        if self.older:
            return self.orders[suite.suite_id, seed]
        return self._hand.order(self.suites.place(suite) * len(suite.seeds) + suite.seeds.index(seed))

    def order(self, suite: Suite, seed: int) -> tuple[str, ...]:
        """In which order a block runs; the first block of a suite has the A/A repeat, if there is one."""
        order = self._order(suite, seed)
        if self._repeats(suite) and seed == suite.seeds[0]:
            return with_repeat(order, suite.suite_id, self._first_hash)
        return order

    @cached_property
    def _first_hash(self) -> str:
        return content_hash((self.older or (self.matrix,))[0].experiment)

    def _repeats(self, suite: Suite) -> bool:
        return self.matrix.run.aa and REFERENCE in suite.variants

    def run_names(self, suite: Suite) -> Iterator[tuple[str, int]]:
        """(folder's name, seed) of every run of a suite, in no particular order."""
        yield from itertools.product(suite.variants, suite.seeds)
        if self._repeats(suite):
            yield REPEAT, suite.seeds[0]

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
                order := self.order(suite, seed),
                prefix=self.paths.prefix,
                device=self.matrix.run.device,
                data_root=self.matrix.run.data_root,
                claims_hash=self._claims_hash,
            )
            for spec, name in zip(specs, order, strict=True):  # the A/A repeat has a folder of its own
                yield spec, root.run(suite.suite_id, name, seed)

    def row(self, suite: Suite) -> Row:
        """The manifest row of a suite, `pending`."""
        return Row(
            suite_id=suite.suite_id,
            dataset=suite.dataset,
            model=suite.model,
            failure_label=suite.failure_label,
            failure_steps=suite.failure_steps,
            checkpoint_every=suite.checkpoint_every,
            max_inflight=suite.max_inflight,
            nproc=suite.train.nproc,
            steps=suite.train.steps,
            seeds=suite.seeds,
            variants=suite.variants,
            runs_total=len(suite.seeds) * len(suite.variants) + self._repeats(suite),
        )

    def rows(self) -> Iterator[Row]:
        """A manifest row for every suite, all `pending`."""
        return map(self.row, self.suites)

    def on_device(self, device: str) -> "Campaign":
        """The same campaign with its device decided, before it is frozen: `resume` must not decide anew."""
        run = self.matrix.run.model_copy(update={"device": device})
        return dataclasses.replace(self, matrix=self.matrix.model_copy(update={"run": run}))

    def freeze(self) -> None:
        """Write the frozen matrix; the folder is made if it is not there. One that it extends is kept beside it."""
        self.paths.root.mkdir(parents=True, exist_ok=True)
        if self.extends:
            write_atomic(_older_path(self.paths, len(self.older)), self.paths.matrix.read_bytes())
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        header = (
            f"The frozen matrix of campaign {self.paths.prefix}: `ecrl matrix resume` reads this and nothing else.\n"
            f"{self.origin}\n"
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
        campaign = dataclasses.replace(campaign, older=frozen.older)
        if differences := matrix_files.differences(frozen.matrix, campaign.matrix):
            added = additions(frozen.matrix, campaign.matrix)
            if added is None:
                raise EcrlError(_other_experiment(paths, differences))
            if not request.extend:
                raise EcrlError(_more(request, frozen, campaign, added))
            return dataclasses.replace(campaign, older=(*frozen.older, frozen.matrix), extends=True)
        # A table's order makes no other experiment, but the places of suites and with them the orders of blocks.
        kept = campaign.matrix.model_copy(update={"failures": frozen.matrix.failures})
        campaign = dataclasses.replace(campaign, matrix=kept)
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
    origin = "\n".join(f"{k}: {header[k]}" for k in _ORIGIN_KEYS if k in header)
    campaign = Campaign(paths, matrix, origin, True, _older(paths, matrix))
    if campaign.experiment_hash != header.get("experiment"):
        raise RecordError(
            f"{paths.matrix}: its content does not match the experiment hash in its header; it was edited or damaged.\n"
            f"Undo the edit, or run the edited matrix under another prefix: ecrl matrix run {_free(paths).options}"
            f" {paths.matrix}"
        )
    return campaign


def _older_path(paths: CampaignPaths, number: int) -> Path:
    return paths.table(f"matrix.{number}.toml")


def _older(paths: CampaignPaths, newest: Matrix) -> tuple[Matrix, ...]:
    """The matrices that were extended; killed between keeping one and freezing the next, the last is no older one."""
    kept: list[Matrix] = []
    while (path := _older_path(paths, len(kept) + 1)).is_file():
        kept.append(matrix_files.load(path, frozen=True))
    return tuple(matrix for matrix in kept if matrix.experiment != newest.experiment)


@contextmanager
def storage(paths: CampaignPaths, next_command: str) -> Iterator[None]:
    """Turn what a disk does to its users (full, not writable), or a user to the disk (a run's folder removed while it
    goes on), into an error with the next command.

    Raises:
        EcrlError: in place of such an OSError.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        if error.errno not in _STORAGE_ERRORS or not (full or error.filename):
            raise
        if error.errno == errno.ENOENT and not Path(error.filename).is_relative_to(paths.suites.resolve()):
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
            f"To run another profile: ecrl matrix run {_free(request.paths).options} --profile {request.profile} FILE"
        )


def _no_matrix(paths: CampaignPaths) -> str:
    shipped = sorted(map(str, Path("matrices").glob("*.toml")))
    choice = f"There are: {', '.join(shipped)}" if shipped else "There are no matrices/*.toml below this folder."
    example = shipped[0] if shipped else "MATRIX.toml"
    return (
        f"MATRIX.toml: found none, and {paths.results}/ holds no campaign {paths.prefix!r}. {choice}\n"
        f"Type: ecrl matrix run {paths.options} {example}"
    )


def _other_experiment(paths: CampaignPaths, differences: list[str]) -> str:
    shown = "; ".join(differences[:_MAX_DIFFERENCES])
    more = len(differences) - _MAX_DIFFERENCES
    return (
        f"--prefix: {paths.prefix!r} holds another experiment (frozen -> asked for): {shown}"
        f"{f'; and {more} more' if more > 0 else ''}.\n"
        f"Expected the same one. Nothing was started. For this one type --prefix {_free(paths).prefix}; to go on with"
        f" the frozen one: ecrl matrix resume {paths.options}"
    )


def _more(request: Request, frozen: Campaign, asked: Campaign, added: list[str]) -> str:
    paths = request.paths
    suites = len(asked.suites) - len(frozen.suites)
    more = f"{suites} more" if suites else "more runs of them"
    return (
        f"--prefix: {paths.prefix!r} holds {len(frozen.suites)} suites of this experiment; asked for are {more}"
        f" (new: {'; '.join(added)}). Nothing was started.\n"
        f"To add what is new, rerunning nothing: ecrl matrix run {paths.options} --extend"
        f" {request.source or ''}".rstrip()
        + f"; to go on with the frozen one: ecrl matrix resume {paths.options}"
    )


def _free(paths: CampaignPaths) -> CampaignPaths:
    """Those of a prefix that is not taken: exp4 -> exp4-2."""
    stem = re.sub(r"-\d+$", "", paths.prefix)
    number = 2
    while (paths.results / f"{stem}-{number}").exists():
        number += 1
    return dataclasses.replace(paths, prefix=f"{stem}-{number}")


def reconciled(campaign: Campaign, rows: Mapping[str, Row], path: Path) -> Rows:
    """The manifest's rows in matrix order, each checked against the suite it names; missing ones are `pending`, and
    so are finished ones whose suite has more runs by now.

    Raises:
        RecordError: a row says something that the frozen matrix does not.
    """
    expected = {row.suite_id: row for row in campaign.rows()}
    for number, row in enumerate(rows.values(), start=1):
        if row.suite_id not in expected:
            hint = did_you_mean(row.suite_id, expected)
            what = f"a suite of {campaign.paths.matrix.name}.{hint}"
            raise manifest.nonsense(path, number, "suite_id", row.suite_id, what)
        should = expected[row.suite_id]
        for column in manifest.FIXED:
            is_now, wanted = getattr(row, column), getattr(should, column)
            if is_now != wanted and not _may_have_grown(campaign, row, column):
                raise manifest.nonsense(path, number, column, manifest.cell(is_now), repr(manifest.cell(wanted)))
        if row.runs_done > row.runs_total:
            raise manifest.nonsense(path, number, "runs_done", str(row.runs_done), f"at most {row.runs_total}")
        state = {name: getattr(row, name) for name in manifest.STATE}
        state["runs_done"] = min(row.runs_done, should.runs_total)  # one fewer to do once `aa` is taken back
        if should.runs_total > row.runs_total and row.status in manifest.DONE:
            state["status"] = manifest.PENDING
        expected[row.suite_id] = dataclasses.replace(should, **state)
    return Rows.of(expected.values(), path)


def _may_have_grown(campaign: Campaign, row: Row, column: str) -> bool:
    """Whether a row may differ from the matrix: it was written before the matrix was extended, or `aa` changed."""
    if column == "runs_total":
        return row.runs_total in {len(row.seeds) * len(row.variants) + repeat for repeat in (0, 1)}
    if column not in ("seeds", "variants"):
        return False
    now, there = getattr(campaign.suites[0], column), getattr(row, column)
    return bool(campaign.older) and set(there) <= set(now)
