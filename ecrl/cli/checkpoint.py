"""`ecrl checkpoint ls|verify`: what a run's checkpoints/ folder holds, and whether every byte of it is right."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ecrl.errors import EXIT_SOME_FAILED, EcrlError
from ecrl.storage import commit
from ecrl.units import format_bytes

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run's checkpoints/ folder.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def register(app: typer.Typer) -> None:
    """Add the `checkpoint` commands."""
    checkpoint = typer.Typer(help="Look at a run's checkpoints; needs no torch.", no_args_is_help=True)
    checkpoint.command("ls")(ls)
    checkpoint.command("verify")(verify)
    app.add_typer(checkpoint, name="checkpoint")


def ls(folder: Folder, as_json: AsJson = False) -> None:
    """List the checkpoints and their sizes. Reads no contents: `verify` does."""
    steps = _steps(folder)
    rows = [
        {
            "step": step,
            "state": "committed" if (commit.step_folder(folder, step) / commit.COMMIT_FILE).is_file() else "partial",
            "bytes": sum(p.stat().st_size for p in commit.step_folder(folder, step).iterdir()),
        }
        for step in steps
    ]
    if as_json:
        typer.echo(json.dumps({"schema": 1, "checkpoints": rows}))
        return
    for row in rows:
        typer.echo(f"step {row['step']:>8}  {row['state']:<9}  {format_bytes(float(str(row['bytes'])))}")


def verify(folder: Folder, as_json: AsJson = False) -> None:
    """Check every digest. Exit code 0 if a valid checkpoint exists, else 4."""
    verdicts = [commit.verify(folder, step) for step in _steps(folder)]
    newest = max((v.step for v in verdicts if v.state == "valid"), default=None)
    if as_json:
        rows = [{"step": v.step, "state": v.state, "reason": v.reason} for v in verdicts]
        typer.echo(json.dumps({"schema": 1, "newest_valid_step": newest, "checkpoints": rows}))
    else:
        for verdict in verdicts:
            typer.echo(f"step {verdict.step:>8}  {verdict.state:<7}  {verdict.reason or ''}".rstrip())
        typer.echo("no valid checkpoint" if newest is None else f"newest valid: step {newest}", err=True)
    if newest is None:
        raise typer.Exit(EXIT_SOME_FAILED)


def _steps(folder: Path) -> list[int]:
    if not folder.is_dir():
        raise EcrlError(
            f"{folder}: no such folder. Give a run's checkpoints/ folder, e.g. results/P/suites/*/*/*/checkpoints"
        )
    steps = commit.all_steps(folder)
    if not steps and (folder / "checkpoints").is_dir():
        raise EcrlError(f"{folder}: holds no step-* folders. Did you mean {folder / 'checkpoints'}?")
    return steps
