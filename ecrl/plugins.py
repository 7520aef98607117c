"""Folder-as-registry: the files of a family's folder are its members, listed without importing any.

A member's name is its file name with `_` written as `-`; its file exports one `PLUGIN`. A member that is a folder (a
kind of experiment) has several parts, each a file with a `PLUGIN` of its own. A member that needs an
optional dependency says so by a literal `EXTRA = ("<extra of pyproject.toml>", "<module>")`.
"""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterable, Mapping
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
    "launcher": "launch.launchers",
    "task": "workloads.tasks",
    "parallelism": "worker.parallel",
    "report section": "report.sections",
    "experiment": "experiments",
}

_EXTRA = re.compile(r'^EXTRA = \("([\w-]+)", "(\w+)"\)', re.MULTILINE)


class MissingExtraError(EcrlError):
    """A member whose optional dependency is not installed."""


@cache
def names(family: str) -> tuple[str, ...]:
    """The names of a family's members, sorted. Reads a folder; imports nothing."""
    folder = _folder(family)
    paths = [*folder.glob("*.py"), *(path.parent for path in folder.glob("*/__init__.py"))]
    return tuple(sorted(p.stem.replace("_", "-") for p in paths if not p.stem.startswith("_")))


@cache
def extra(family: str, name: str) -> tuple[str, str] | None:
    """The extra that a member needs and the module that comes with it; None for most. Reads a file; imports nothing."""
    found = _EXTRA.search(_path(family, name).read_text())
    return (found[1], found[2]) if found else None


def find_missing(family: str, wanted: Iterable[str]) -> dict[str, str]:
    """Members among `wanted` that cannot be used here -> the extra that each needs."""
    needs = {name: extra(family, name) for name in wanted if name in names(family)}
    return {name: need[0] for name, need in needs.items() if need and importlib.util.find_spec(need[1]) is None}


def require(family: str, wanted: Iterable[str], what: str) -> None:
    """Refuse members whose optional dependency is not installed. what: how the user knows them ("variant").

    Raises:
        MissingExtraError: with the command that installs what is missing.
    """
    if absent := find_missing(family, wanted):
        lines = [
            f"{what} {name} needs the extra `{extra_name}`: pip install 'ecrl[{extra_name}]'"
            for name, extra_name in absent.items()
        ]
        raise MissingExtraError("ECRL-290", "\n".join(lines))


@cache
def declared(family: str, name: str) -> Mapping[str, Any]:
    """The literal arguments of a member's `PLUGIN`: what it says of itself. Parses a file; imports nothing."""
    import ast  # commands that must be quick ask for no declaration

    for statement in ast.parse(_path(family, name).read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name("PLUGIN")], value=ast.Call(keywords=keywords)):
                found = {}
                for keyword in keywords:
                    with contextlib.suppress(ValueError):  # no literal: nothing that can be said without an import
                        found[str(keyword.arg)] = ast.literal_eval(keyword.value)
                return found
    return {}


def load(family: str, name: str) -> Any:
    """Import one member and return its `PLUGIN`.

    Raises:
        EcrlError: no member has this name, or what it needs is not installed.
    """
    if name not in names(family):
        raise EcrlError("ECRL-291", unknown_name(family, name, names(family)))
    require(family, [name], family)
    return importlib.import_module(f"ecrl.{FAMILIES[family]}.{name.replace('-', '_')}").PLUGIN


def _folder(family: str) -> Path:
    return Path(__file__).parent.joinpath(*FAMILIES[family].split("."))


def _path(family: str, name: str) -> Path:
    return _folder(family) / f"{name.replace('-', '_')}.py"
