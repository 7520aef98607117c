"""Folder-as-registry: the files of a family's folder are its members, listed without importing any.

A member's name is its file name with `_` written as `-`; its file exports one `PLUGIN`.
"""

import importlib
from functools import cache
from pathlib import Path
from typing import Any

from ecrl.errors import EcrlError, unknown_name

# family -> package below ecrl/ whose files are the members
FAMILIES = {
    "engine": "checkpoint.engines",
    "failure kind": "failures.kinds",
    "model": "workloads.models",
    "dataset": "workloads.datasets",
    "report section": "report.sections",
}


@cache
def names(family: str) -> tuple[str, ...]:
    """The names of a family's members, sorted. Reads a folder; imports nothing."""
    folder = Path(__file__).parent.joinpath(*FAMILIES[family].split("."))
    return tuple(sorted(p.stem.replace("_", "-") for p in folder.glob("*.py") if not p.stem.startswith("_")))


def load(family: str, name: str) -> Any:
    """Import one member and return its `PLUGIN`.

    Raises:
        EcrlError: no member has this name.
    """
    if name not in names(family):
        raise EcrlError(unknown_name(family, name, names(family)))
    return importlib.import_module(f"ecrl.{FAMILIES[family]}.{name.replace('-', '_')}").PLUGIN
