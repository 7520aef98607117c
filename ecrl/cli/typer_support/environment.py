"""Environment variables that stand in for options: their names, which of them gave a value, and what is said of it."""

import os
from typing import Any

from ecrl.cli.ui.messages import print_message

# Parameter -> table and key of the matrix that it replaces. What it replaces is said once the matrix is known.
MATRIX_KEYS: dict[str, tuple[str, str]] = {
    "datasets": ("matrix", "datasets"),
    "models": ("matrix", "models"),
    "failures": ("matrix", "failures"),
    "checkpoint_every": ("matrix", "checkpoint_every"),
    "max_inflight": ("matrix", "max_inflight"),
    "seeds": ("matrix", "seeds"),
    "variants": ("matrix", "variants"),
    "nproc": ("train", "nproc"),
    "device": ("run", "device"),
    "gpus": ("run", "gpus"),
    "data_root": ("run", "data_root"),
    "retries": ("run", "retries"),
    "timeout": ("run", "timeout_s"),
    "jobs": ("run", "jobs"),
    "aa": ("run", "aa"),
    "trackers": ("run", "trackers"),
}


# Names from before there were those with ECRL_. Other tools may use them, too.
_PLAIN = {
    "prefix": "MATRIX_PREFIX",
    "profile": "PROFILE",
    "datasets": "DATASETS_CSV",
    "models": "MODELS_CSV",
    "checkpoint_every": "CHECKPOINT_EVERY_CSV",
    "seeds": "SEEDS_CSV",
    "nproc": "NPROC",
}


def names(parameter: str) -> list[str]:
    """The variables of a parameter; the first that is set counts."""
    return [f"ECRL_{parameter.upper()}", *([_PLAIN[parameter]] if parameter in _PLAIN else [])]


def find_variable(parameter: Any, ctx: Any) -> str | None:
    """The variable that gave a parameter its value; None: the command line or the default did."""
    given = ctx.get_parameter_source(parameter.name)
    if given is None or given.name != "ENVIRONMENT":
        return None
    return str(next(name for name in parameter.envvar if os.environ.get(name)))


def note_variables(parameters: list[Any], ctx: Any) -> None:
    """Say which variables stand in for options of a command."""
    for parameter in parameters:
        if parameter.name not in MATRIX_KEYS and (name := find_variable(parameter, ctx)) is not None:
            print_message(f"note: {name}={os.environ[name]} (environment) stands in for {parameter.opts[0]}")
