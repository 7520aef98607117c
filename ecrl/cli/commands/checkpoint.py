"""`ecrl checkpoint ls|verify`: lists the checkpoints of runs, and verifies every byte of them.

A run may still be active: it adds and removes checkpoints while either command works.
"""

import contextlib
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import EcrlTyper
from ecrl.errors import EXIT_SOME_FAILED, EcrlError, RecordError
from ecrl.records.paths import CHECKPOINTS, WARMUPS, RunPaths
from ecrl.records.places import MARKER, list_places, read_owner
from ecrl.storage import commit, formats
from ecrl.units import format_bytes

_LOOKS, _PAUSE_S, _SETTLED_S = 20, 0.01, 1.0  # at a folder that has just changed

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder of a run, a suite, a campaign, or checkpoints.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the `checkpoint` commands."""
    checkpoint = EcrlTyper(
        help="List and verify checkpoints; needs no torch.",
        epilog="Example: ecrl checkpoint verify results/mine",
        no_args_is_help=True,
    )
    checkpoint.command("ls", epilog="Example: ecrl checkpoint ls results/mine")(ls)
    checkpoint.command("verify", epilog="Example: ecrl checkpoint verify results/mine")(verify)
    app.add_typer(checkpoint, name="checkpoint")


def ls(folder: Folder, as_json: opt.AsJson = False) -> None:
    """List the checkpoints and their sizes.

    Reads no contents: `verify` does. Exit code 0 if there is a checkpoint, else 4.
    """
    runs = _find_runs(folder)
    found = {run.folder: _list_rows(run) for run in runs}
    rows = [{"folder": str(root)} | row for root, listed in found.items() for row in listed]
    if as_json:
        typer.echo(json.dumps({"schema": 1, "checkpoints": rows}))
    else:
        _print_all(folder, {root: list(map(_format_row, listed)) for root, listed in found.items()})
        for line in _explain_absent([run for run in runs if not found[run.folder]]):
            typer.echo(line, err=True)
        if not rows:
            typer.echo(f"{folder}: no checkpoint is there", err=True)
    if not rows:
        raise typer.Exit(EXIT_SOME_FAILED)


@dataclass(frozen=True)
class _Run:
    """A folder of checkpoints as the user sees it, and the places to which it leads: more than one with fallbacks."""

    folder: Path
    places: tuple[Path, ...]

    @property
    def records(self) -> RunPaths | None:
        """The files of the run; None for a folder of checkpoints alone."""
        owner = read_owner(self.folder)
        found = RunPaths(self.folder.absolute().parent if owner is None else Path(owner.folder))
        return found if found.spec.is_file() else None

    def list_steps(self) -> list[tuple[int, Path]]:
        """Step and place of every checkpoint, oldest first."""
        return sorted((step, place) for place in self.places for step in commit.list_steps(place))

    def stamp(self) -> tuple[list[int], list[tuple[int, Path]]]:
        """What changes when a checkpoint's folder comes or goes."""
        # The stamp of a folder is as coarse as the kernel's tick, so the steps belong to it.
        return [place.stat().st_mtime_ns if place.is_dir() else 0 for place in self.places], self.list_steps()

    def name_place(self, place: Path) -> dict[str, str]:
        """The entry of a row that tells the place of a checkpoint; empty for the preferred place."""
        return {} if place == self.places[0] else {"place": str(place)}


def _list_rows(run: _Run) -> list[dict[str, Any]]:
    """The rows of one run's checkpoints. "None" is true only if nothing came or went during the look."""
    while True:
        before = run.stamp()
        found = ((place, _row(commit.step_folder(place, step), step)) for step, place in run.list_steps())
        rows = [row | run.name_place(place) for place, row in found if row is not None]
        if rows or run.stamp() == before:
            return rows


def _format_row(row: dict[str, Any]) -> str:
    engine = f"  by {row['engine']}" if row["engine"] else ""
    place = f"  in {row['place']}" if "place" in row else ""
    return f"step {row['step']:>8}  {row['state']:<9}  {format_bytes(float(row['bytes']))}{engine}{place}"


def _print_all(folder: Path, lines: Mapping[Path, list[str]]) -> None:
    """Print the lines of every folder, below its name if it is another one than the user named."""
    for root, told in lines.items():
        if told and root != folder:
            typer.echo(f"==> {root} <==")
        for line in told:
            typer.echo(line)


def _row(folder: Path, step: int) -> dict[str, Any] | None:
    """The row of one checkpoint for `ls`; None if the checkpoint was removed meanwhile.

    engine: the engine that wrote the checkpoint in its own format; None for ecrl's format.
    """
    size = _size(folder)  # read before the state: a checkpoint that is still committed afterwards had all its files
    written = formats.find_complete_format(folder) or formats.find_partial_format(folder)
    if (folder / commit.COMMIT_FILE).is_file():
        state, written = "committed", None
    else:
        state = "complete" if formats.find_complete_format(folder) else "partial"
    if not folder.is_dir():
        return None
    return {"step": step, "state": state, "bytes": size, "engine": None if written is None else written.engine}


def _size(folder: Path) -> int:
    """Bytes of all files below a folder. Files that are removed meanwhile do not count."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += Path(parent, name).lstat().st_size
    return size


def verify(folder: Folder, as_json: opt.AsJson = False) -> None:
    """Check every byte of the checkpoints against digests.

    Exit code 0 if each run that has checkpoints has a valid one, else 4.

    Inside a run's folder, checkpoints of another run or number of ranks are refused as a restore refuses them.
    Other engines' formats keep no digests: their checkpoints cannot be verified, and none of them counts as valid.
    A checkpoint that a live run removes during the check has the state `removed`.
    """
    every = [_verify(run) for run in _find_runs(folder)]
    removed = [each.run for each in every if not each.verdicts and _is_removed(each.run)]
    found = [each for each in every if each.verdicts] or [each for each in every if each.run not in removed][:1]
    if as_json:
        rows = [{"folder": str(each.run.folder)} | row for each in found for row in each.to_json()]
        newest = found[0].newest if len(found) == 1 else None
        runs = [{"folder": str(each.run.folder), "newest_valid_step": each.newest} for each in found]
        gone = [str(run.folder) for run in removed]
        told = {"newest_valid_step": newest, "runs": runs, "checkpoints": rows, "removed": gone}
        typer.echo(json.dumps({"schema": 1, **told}))
    else:
        _print_all(folder, {each.run.folder: each.format_lines() for each in found})
        for line in _explain_absent([each.run for each in every if not each.verdicts]):
            typer.echo(line, err=True)
        if found:
            typer.echo(_summarize(found), err=True)
    if any(each.newest is None for each in found):
        raise typer.Exit(EXIT_SOME_FAILED)


@dataclass(frozen=True)
class _Verified:
    """The verdicts on the checkpoints of one run, with the place of each. strays: files in the folder of a valid
    checkpoint that are not part of it."""

    run: _Run
    verdicts: list[tuple[Path, commit.Verdict]]
    strays: dict[int, list[str]]

    @property
    def newest(self) -> int | None:
        """The step of the newest valid checkpoint."""
        return max(self.strays, default=None)

    def to_json(self) -> Iterator[dict[str, Any]]:
        """A row for every checkpoint."""
        for place, v in self.verdicts:
            strays = self.strays.get(v.step, [])
            told = {"step": v.step, "state": v.state, "reason": v.reason, "strays": strays}
            yield told | self.run.name_place(place)

    def format_lines(self) -> list[str]:
        """A line for every checkpoint."""
        return [self._format_line(place, verdict) for place, verdict in self.verdicts]

    def _format_line(self, place: Path, verdict: commit.Verdict) -> str:
        said = verdict.reason or ""
        if extra := self.strays.get(verdict.step):
            said = f"files that are not part of it: {', '.join(extra)}"
        if where := self.run.name_place(place):
            said = f"in {where['place']}  {said}"
        return f"step {verdict.step:>8}  {verdict.state:<12}  {said}".rstrip()


def _verify(run: _Run) -> _Verified:
    owner, world_size = _owner(run)
    found: dict[tuple[int, Path], commit.Verdict] = {}
    # A run removes the last valid checkpoint only after it has a newer one. So "none" is true only if nothing came or
    # went during the look: a listing may miss the newer one, and what is partial may be on its way in or out.
    while not any(verdict.state == "valid" for verdict in found.values()):
        before = run.stamp()
        for step, place in run.list_steps():
            if (step, place) not in found or found[step, place].state in ("partial", "removed"):
                found[step, place] = commit.verify(place, step, run=owner, world_size=world_size)
        if run.stamp() == before:
            break
    verdicts = [(place, verdict) for (_, place), verdict in found.items()]
    strays = {v.step: commit.find_orphan_files(place, v.step) for place, v in verdicts if v.state == "valid"}
    return _Verified(run, verdicts, strays)


def _summarize(found: list[_Verified]) -> str:
    if len(found) > 1:
        valid = sum(each.newest is not None for each in found)
        return f"runs with a valid checkpoint: {valid} of {len(found)}"
    [only] = found
    if only.newest is not None:
        return f"newest valid: step {only.newest}"
    if any(verdict.state == "unverifiable" for _, verdict in only.verdicts):
        return "no checkpoint can be verified: the format of this engine has no digests"
    return "no valid checkpoint"


def _owner(run: _Run) -> tuple[str | None, int | None]:
    """The run's hash and number of ranks from its run.json; (None, None) without one."""
    if (records := run.records) is None:
        return None, None
    try:
        content = json.loads(records.spec.read_text())
        return str(content["run_hash"]), int(content["train"]["nproc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            "ECRL-403", f"{records.spec}: not a valid run.json ({error}). Restore it, or move it away."
        ) from error


def _is_removed(run: _Run) -> bool:
    """Whether the run has no checkpoints because it is complete, and its campaign keeps none of such runs."""
    records = run.records
    if records is None or not records.result.is_file():
        return False
    try:
        outcome = json.loads(records.result.read_text()).get("outcome")
        options = tomllib.loads(records.campaign.matrix.read_text()).get("run", {})
    except (OSError, ValueError):
        return False  # `ecrl matrix show` tells of damaged records
    return outcome == "completed" and options.get("keep_final") is False


def _explain_absent(runs: list[_Run]) -> Iterator[str]:
    """Why these runs have no checkpoints, as far as it is known."""
    if removed := sum(map(_is_removed, runs)):
        kept = "completed run keeps no checkpoints" if removed == 1 else "completed runs keep no checkpoints"
        yield f"{removed} {kept}: run.keep_final = false"
    for run in runs:
        gone = [str(place) for place in run.places if run.folder.is_symlink() and not place.is_dir()]
        if gone and not _is_removed(run):
            yield f"{run.folder}: leads to {', '.join(gone)}, which is not there. Is its disk mounted?"


def _find_runs(folder: Path) -> list[_Run]:
    """The folders with the checkpoints of runs: the given one, else all of the run, the suite or the campaign.

    Raises:
        EcrlError: there is none.
    """
    if not folder.is_dir():
        raise EcrlError(
            "ECRL-107", f"{folder}: no such folder. Give that of a run, a suite or a campaign, e.g. results/PREFIX"
        )
    if CHECKPOINTS in (folder.name, folder.resolve().name) or _has_steps(folder) or read_owner(folder):
        paths = RunPaths(folder.absolute().parent)
        own = folder.absolute() == paths.checkpoints
        return [_Run(folder, tuple(list_places(paths)) if own else (folder.resolve(),))]
    # By their results too: the checkpoints of a complete run may have been removed.
    parents = _find_parents(folder, CHECKPOINTS, "result.json")
    runs = [RunPaths(path) for path in parents if ".aside-" not in path.name and path.parent.name != WARMUPS]
    found = [_Run(paths.checkpoints, tuple(list_places(paths))) for paths in runs]
    found += [_Run(place, (place.resolve(),)) for place in _find_parents(folder, MARKER) if not place.is_symlink()]
    if not any(os.path.lexists(run.folder) or _is_removed(run) for run in found):
        raise EcrlError(
            "ECRL-107",
            f"{folder}: holds no checkpoints, and no run that has some.\n"
            "Give the folder of a run, a suite or a campaign, e.g. results/PREFIX",
        )
    return found


def _has_steps(folder: Path) -> bool:
    """Whether a folder has checkpoints of a run, which may go on."""
    # A listing can miss both the checkpoint that is removed meanwhile and the one that replaces it.
    for _ in range(_LOOKS):
        if commit.list_steps(folder):
            return True
        if time.time() - folder.stat().st_mtime > _SETTLED_S:
            return False
        time.sleep(_PAUSE_S)
    return False


def _find_parents(folder: Path, *names: str) -> list[Path]:
    """The folders below `folder` that hold a file or folder of one of these names."""
    return sorted({path.parent for depth in range(5) for name in names for path in folder.glob("*/" * depth + name)})
