"""Completes the table `[job]` of a matrix file and finds its problems."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecrl import plugins
from ecrl.config.job import JobSettings, compute_script_digest
from ecrl.config.matrix import Matrix, get_table
from ecrl.config.problems import Sources
from ecrl.config.suite import list_train_settings
from ecrl.config.table import SCRIPT

LAUNCHER = "cold"  # the others start ranks in a process that has imported ecrl's own training


def name_script(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The key of a validation's context that makes a script's names valid; empty without a table `[job]`."""
    script = get_table(raw, "job").get("script")
    return {SCRIPT: ("", JobSettings(script=script).name)} if isinstance(script, str) else {}


def resolve_job(raw: Mapping[str, Any], sources: Sources) -> tuple[dict[str, Any], list[str]]:
    """The tables of a user's file with the script's place and digest, and with its names as data set and model.

    Returns them and the problems that were found.
    """
    job = get_table(raw, "job")
    if not job or not isinstance(job.get("script"), str):
        return dict(raw), []  # no job, or `find_shape_problems` reports it
    axes = get_table(raw, "matrix")
    problems = [
        f"{sources.place(('matrix', name))}: found with [job], expected it to be left out: the script has its own"
        for name in ("datasets", "models")
        if name in axes and axes[name] not in ([""], [JobSettings(script=job["script"]).name])
    ]
    script = sources.path.parent / Path(job["script"]).expanduser()
    digest, found = "", _find_fault(script)
    if found:
        problems.append(f"{sources.place(('job', 'script'))}: found {job['script']!r}, {found}")
    else:
        digest = compute_script_digest(script)
    named = {**axes, "datasets": [""], "models": [script.stem]}
    return {**raw, "job": {**job, "script": str(script.absolute()), "sha256": digest}, "matrix": named}, problems


def _find_fault(script: Path) -> str:
    try:
        compile(script.read_bytes(), str(script), "exec", dont_inherit=True)
    except OSError as error:
        return f"which cannot be read ({error.strerror}), expected a Python file, relative to the matrix file"
    except (SyntaxError, ValueError) as error:
        return f"which is no Python: {error}"
    return ""


def find_job_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """What a script cannot be run with, in a valid matrix."""
    return [] if matrix.job is None else list(dict.fromkeys(_find_unfit_settings(matrix, sources)))


def _find_unfit_settings(matrix: Matrix, sources: Sources) -> Iterator[str]:
    fitting = [name for name in plugins.names("engine") if plugins.declared("engine", name).get("late_state")]
    for engine in matrix.engines:
        if engine not in fitting:
            where = sources.name(("matrix", "variants"))
            yield (
                f"{where}: matrix.variants: engine {engine!r} cannot hold the state of a script, expected engines among"
                f" {', '.join(fitting)}"
            )
    for launcher in {*(train.launcher for train in list_train_settings(matrix)), *(matrix.matrix.launchers or ())}:
        if launcher != LAUNCHER:
            where = sources.name(("train", "launcher"))
            yield f"{where}: train.launcher: found {launcher!r} with [job], expected {LAUNCHER!r}"
    for label, entries in matrix.failures.items():
        if any(entry.phase == "loss" for entry in entries):
            where = sources.name(("failures", label))
            yield f"{where}: failures.{label}: found phase = 'loss', expected another one: a script's loss is its own"


def find_job_warnings(matrix: Matrix, sources: Sources) -> list[str]:
    """Oddities of a script that are no problems."""
    if matrix.job is None or "ecrl" in Path(matrix.job.script).read_text(errors="replace"):
        return []
    return [
        f"{sources.place(('job', 'script'))}: {matrix.job.script} does not name ecrl; its runs fail unless a module"
        " that it imports calls ecrl.attach"
    ]
