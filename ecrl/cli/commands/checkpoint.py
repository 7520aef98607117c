"""`ecrl checkpoint ls|verify`: lists the checkpoints of runs, and verifies every byte of them.

A run may still be active: it adds and removes checkpoints while either command works.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ecrl.cli.typer_support import options as opt
from ecrl.cli.typer_support.usage_errors import EcrlTyper
from ecrl.errors import EXIT_SOME_FAILED, EcrlError, RecordError
from ecrl.storage import commit, formats
from ecrl.units import format_bytes

Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="The folder of a run, a suite, a campaign, or checkpoints.", show_default=False),
]


_CHECKPOINTS = "checkpoints"


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
    found = {root: _list_rows(root) for root in _find_roots(folder)}
    rows = [{"folder": str(root)} | row for root, listed in found.items() for row in listed]
    if as_json:
        typer.echo(json.dumps({"schema": 1, "checkpoints": rows}))
    else:
        _print_all(folder, {root: list(map(_format_row, listed)) for root, listed in found.items()})
        if not rows:
            typer.echo(f"{folder}: no checkpoint is there", err=True)
    if not rows:
        raise typer.Exit(EXIT_SOME_FAILED)


def _list_rows(root: Path) -> list[dict[str, Any]]:
    """The rows of one run's checkpoints. "None" is true only if nothing came or went during the look."""
    while True:
        before = _stamp(root)
        rows = [row for step in commit.list_steps(root) if (row := _row(commit.step_folder(root, step), step))]
        if rows or _stamp(root) == before:
            return rows


def _format_row(row: dict[str, Any]) -> str:
    engine = f"  by {row['engine']}" if row["engine"] else ""
    return f"step {row['step']:>8}  {row['state']:<9}  {format_bytes(float(row['bytes']))}{engine}"


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
    found = [_verify(root) for root in _find_roots(folder)]
    found = [each for each in found if each.verdicts] or found[:1]
    if as_json:
        rows = [{"folder": str(each.root)} | row for each in found for row in each.to_json()]
        newest = found[0].newest if len(found) == 1 else None
        runs = [{"folder": str(each.root), "newest_valid_step": each.newest} for each in found]
        typer.echo(json.dumps({"schema": 1, "newest_valid_step": newest, "runs": runs, "checkpoints": rows}))
    else:
        _print_all(folder, {each.root: each.format_lines() for each in found})
        typer.echo(_summarize(found), err=True)
    if any(each.newest is None for each in found):
        raise typer.Exit(EXIT_SOME_FAILED)


@dataclass(frozen=True)
class _Verified:
    """The verdicts on the checkpoints of one run. strays: files of a valid checkpoint that are not part of it."""

    root: Path
    verdicts: list[commit.Verdict]
    strays: dict[int, list[str]]

    @property
    def newest(self) -> int | None:
        """The step of the newest valid checkpoint."""
        return max(self.strays, default=None)

    def to_json(self) -> Iterator[dict[str, Any]]:
        """A row for every checkpoint."""
        for v in self.verdicts:
            yield {"step": v.step, "state": v.state, "reason": v.reason, "strays": self.strays.get(v.step, [])}

    def format_lines(self) -> list[str]:
        """A line for every checkpoint."""
        return [self._format_line(verdict) for verdict in self.verdicts]

    def _format_line(self, verdict: commit.Verdict) -> str:
        said = verdict.reason or ""
        if extra := self.strays.get(verdict.step):
            said = f"files that are not part of it: {', '.join(extra)}"
        return f"step {verdict.step:>8}  {verdict.state:<12}  {said}".rstrip()


def _verify(root: Path) -> _Verified:
    run, world_size = _owner(root)
    found: dict[int, commit.Verdict] = {}
    # A run removes the last valid checkpoint only after it has a newer one. So "none" is true only if nothing came or
    # went during the look: a listing may miss the newer one, and what is partial may be on its way in or out.
    while not any(verdict.state == "valid" for verdict in found.values()):
        before = _stamp(root)
        for step in commit.list_steps(root):
            if step not in found or found[step].state in ("partial", "removed"):
                found[step] = commit.verify(root, step, run=run, world_size=world_size)
        if _stamp(root) == before:
            break
    verdicts = list(found.values())
    strays = {v.step: commit.find_orphan_files(root, v.step) for v in verdicts if v.state == "valid"}
    return _Verified(root, verdicts, strays)


def _stamp(folder: Path) -> tuple[int, list[int]]:
    """What changes when a checkpoint's folder comes or goes."""
    # The stamp of a folder is as coarse as the kernel's tick, so the steps belong to it.
    return (folder.stat().st_mtime_ns if folder.is_dir() else 0), commit.list_steps(folder)


def _summarize(found: list[_Verified]) -> str:
    if len(found) > 1:
        valid = sum(each.newest is not None for each in found)
        return f"runs with a valid checkpoint: {valid} of {len(found)}"
    [only] = found
    if only.newest is not None:
        return f"newest valid: step {only.newest}"
    if any(verdict.state == "unverifiable" for verdict in only.verdicts):
        return "no checkpoint can be verified: the format of this engine has no digests"
    return "no valid checkpoint"


def _owner(folder: Path) -> tuple[str | None, int | None]:
    """The run's hash and number of ranks from the run.json next to a checkpoints/ folder; (None, None) without one."""
    path = folder.resolve().parent / "run.json"
    if not path.is_file():
        return None, None
    try:
        content = json.loads(path.read_text())
        return str(content["run_hash"]), int(content["train"]["nproc"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            "ECRL-403", f"{path}: not a valid run.json ({error}). Restore it, or move it away."
        ) from error


def _find_roots(folder: Path) -> list[Path]:
    """The folders with the checkpoints of runs: the given one, else all of the run, the suite or the campaign.

    Raises:
        EcrlError: there is none.
    """
    if not folder.is_dir():
        raise EcrlError(
            "ECRL-107", f"{folder}: no such folder. Give that of a run, a suite or a campaign, e.g. results/PREFIX"
        )
    if folder.resolve().name == _CHECKPOINTS or commit.list_steps(folder):
        return [folder]
    below = [pattern for depth in range(5) for pattern in folder.glob("*/" * depth + _CHECKPOINTS)]
    if not below:
        raise EcrlError(
            "ECRL-107",
            f"{folder}: holds no checkpoints, and no run that has some.\n"
            "Give the folder of a run, a suite or a campaign, e.g. results/PREFIX",
        )
    return sorted(below)
