"""`ecrl checkpoint ls|verify`: lists the checkpoints in a run's checkpoints/ folder, and verifies every byte of them.

The run may still be active: it adds and removes checkpoints while either command works.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ecrl.cli.typer_support.usage_errors import EcrlTyper
from ecrl.errors import EXIT_SOME_FAILED, EcrlError, RecordError
from ecrl.storage import commit, formats
from ecrl.units import format_bytes

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run's checkpoints/ folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the `checkpoint` commands."""
    checkpoint = EcrlTyper(help="Look at a run's checkpoints; needs no torch.", no_args_is_help=True)
    checkpoint.command("ls")(ls)
    checkpoint.command("verify")(verify)
    app.add_typer(checkpoint, name="checkpoint")


def ls(folder: Folder, as_json: AsJson = False) -> None:
    """List the checkpoints and their sizes. Reads no contents: `verify` does."""
    rows = [row for step in _steps(folder) if (row := _row(commit.step_folder(folder, step), step))]
    if as_json:
        typer.echo(json.dumps({"schema": 1, "checkpoints": rows}))
        return
    for row in rows:
        engine = f"  by {row['engine']}" if row["engine"] else ""
        typer.echo(f"step {row['step']:>8}  {row['state']:<9}  {format_bytes(float(row['bytes']))}{engine}")


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


def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Check every digest. Exit code 0 if a valid checkpoint exists, else 4.

    Inside a run's folder, checkpoints of another run or number of ranks are refused as a restore refuses them.
    Other engines' formats keep no digests: their checkpoints cannot be verified, and none of them counts as valid.
    A checkpoint that a live run removes during the check has the state `removed`.
    """
    run, world_size = _owner(folder)
    found: dict[int, commit.Verdict] = {}
    # A run removes the last valid checkpoint only after it has a newer one. So "none" is true only if nothing came or
    # went during the look: a listing may miss the newer one, and what is partial may be on its way in or out.
    while not any(verdict.state == "valid" for verdict in found.values()):
        before = _stamp(folder)
        for step in _steps(folder):
            if step not in found or found[step].state in ("partial", "removed"):
                found[step] = commit.verify(folder, step, run=run, world_size=world_size)
        if _stamp(folder) == before:
            break
    verdicts = list(found.values())
    strays = {v.step: commit.find_orphan_files(folder, v.step) for v in verdicts if v.state == "valid"}
    newest = max(strays, default=None)
    if as_json:
        rows = [
            {"step": v.step, "state": v.state, "reason": v.reason, "strays": strays.get(v.step, [])} for v in verdicts
        ]
        typer.echo(json.dumps({"schema": 1, "newest_valid_step": newest, "checkpoints": rows}))
    else:
        for verdict in verdicts:
            said = verdict.reason or ""
            if extra := strays.get(verdict.step):
                said = f"files that are not part of it: {', '.join(extra)}"
            typer.echo(f"step {verdict.step:>8}  {verdict.state:<12}  {said}".rstrip())
        typer.echo(_summary(verdicts, newest), err=True)
    if newest is None:
        raise typer.Exit(EXIT_SOME_FAILED)


def _stamp(folder: Path) -> tuple[int, list[int]]:
    """What changes when a checkpoint's folder comes or goes."""
    # The stamp of a folder is as coarse as the kernel's tick, so the steps belong to it.
    return (folder.stat().st_mtime_ns if folder.is_dir() else 0), commit.list_steps(folder)


def _summary(verdicts: list[commit.Verdict], newest: int | None) -> str:
    if newest is not None:
        return f"newest valid: step {newest}"
    if any(verdict.state == "unverifiable" for verdict in verdicts):
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


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        raise EcrlError(
            "ECRL-107",
            f"{folder}: no such folder. Give a run's checkpoints/ folder, e.g. results/P/suites/*/*/*/checkpoints",
        )
    steps = commit.list_steps(folder)
    if not steps and (folder / "checkpoints").is_dir():
        raise EcrlError("ECRL-107", f"{folder}: holds no step-* folders. Did you mean {folder / 'checkpoints'}?")
    return steps
