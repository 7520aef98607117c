"""Plugin registry: the files in a family's folder are its members. Listing them imports none.

A member's name is its file name with `_` written as `-`. Its file exports one `PLUGIN`. A kind of experiment is a
folder instead of a file: each of its files is a part for one program and exports a `PLUGIN`. A member that needs an
optional dependency declares it with a literal `EXTRA = ("<extra of pyproject.toml>", "<module>")`, a folder in its
`__init__.py`.
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
    "tracker": "trackers.kinds",
}

_EXTRA = re.compile(r'^EXTRA = \("([\w-]+)", "(\w+)"\)', re.MULTILINE)


class MissingExtraError(EcrlError):
    """The optional dependency of a member is not installed."""


@cache
def names(family: str) -> tuple[str, ...]:
    """The sorted names of a family's members. Reads a folder; imports nothing."""
    folder = _folder(family)
    paths = [*folder.glob("*.py"), *(path.parent for path in folder.glob("*/__init__.py"))]
    return tuple(sorted(p.stem.replace("_", "-") for p in paths if not p.stem.startswith("_")))


@cache
def extra(family: str, name: str) -> tuple[str, str] | None:
    """The extra that a member needs, and the module that it installs. None if the member needs no extra.

    Reads a file; imports nothing.
    """
    found = _EXTRA.search(_path(family, name).read_text())
    return (found[1], found[2]) if found else None


def find_missing(family: str, wanted: Iterable[str]) -> dict[str, str]:
    """Members among `wanted` whose extra is not installed, each with its extra. Unknown names are skipped."""
    needs = {name: extra(family, name) for name in wanted if name in names(family)}
    return {name: need[0] for name, need in needs.items() if need and importlib.util.find_spec(need[1]) is None}


def require(family: str, wanted: Iterable[str], what: str) -> None:
    """Raise an error if the optional dependency of a member is not installed.

    what: the user's word for such a member in the message, e.g. "variant".

    Raises:
        MissingExtraError: an extra is missing. The message gives the command that installs it.
    """
    if absent := find_missing(family, wanted):
        lines = [
            f"{what} {name} needs the extra `{extra_name}`: pip install 'ecrl[{extra_name}]'"
            for name, extra_name in absent.items()
        ]
        raise MissingExtraError("ECRL-290", "\n".join(lines))


@cache
def declared(family: str, name: str) -> Mapping[str, Any]:
    """The literal keyword arguments in the call that creates a member's `PLUGIN`. Parses a file; imports nothing."""
    import ast  # imported here: commands that must start fast read no declarations

    for statement in ast.parse(_path(family, name).read_text()).body:
        match statement:
            case ast.Assign(targets=[ast.Name("PLUGIN")], value=ast.Call(keywords=keywords)):
                found = {}
                for keyword in keywords:
                    with contextlib.suppress(ValueError):  # not a literal: its value is unknown without an import
                        found[str(keyword.arg)] = ast.literal_eval(keyword.value)
                return found
    return {}


def load(family: str, name: str, part: str = "") -> Any:
    """Import one member and return its `PLUGIN`.

    part: the file of a member that is a folder, e.g. `run`.

    Raises:
        EcrlError: no member has this name, or the extra that it needs is not installed.
    """
    if name not in names(family):
        raise EcrlError("ECRL-291", unknown_name(family, name, names(family)))
    require(family, [name], family)
    path = [FAMILIES[family], name.replace("-", "_"), *([part] if part else [])]
    return importlib.import_module(".".join(["ecrl", *path])).PLUGIN


def _folder(family: str) -> Path:
    return Path(__file__).parent.joinpath(*FAMILIES[family].split("."))


def _path(family: str, name: str) -> Path:
    path = _folder(family) / name.replace("-", "_")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
