"""Checks of the values of a matrix file, and the fields of tables that stand for a settings dataclass."""

import dataclasses
import functools
from types import GenericAlias, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, Field, ValidationInfo

from ecrl import plugins
from ecrl.config.train import Folder, Member
from ecrl.errors import unknown_name

SCRIPT = "script"  # key of a validation's context: what stands for the data set and the model of a script


def make_member_check(family: str, *, of_scripts: bool = False) -> AfterValidator:
    """The check that a text is the name of a member of `family`. of_scripts: or what stands for it if a script runs."""

    def check(name: str, info: ValidationInfo) -> str:
        valid = plugins.names(family)
        if name not in valid and not (of_scripts and name in (info.context or {}).get(SCRIPT, ())):
            raise ValueError(unknown_name(family, name, valid))
        return name

    return AfterValidator(check)


def check_no_repeats(values: list[Any]) -> list[Any]:
    """Refuse a list that has a value twice."""
    repeated = sorted({str(v) for v in values if values.count(v) > 1})
    if repeated:
        raise ValueError(f"found {', '.join(repeated)} more than once, expected each value once")
    return values


def get_fields(settings: type) -> dict[str, Any]:
    """The keys, bounds and defaults of the table that a settings dataclass stands for, as `create_model` takes them."""
    hints = get_type_hints(settings, include_extras=True)
    return {
        f.name: (_read_marks(hints[f.name]), ... if f.default is dataclasses.MISSING else f.default)
        for f in dataclasses.fields(settings)
    }


def _read_marks(hint: Any) -> Any:
    """Add to a type hint the checks that its marks stand for, at any depth. A tuple may be written as a list."""
    if get_origin(hint) is Annotated:
        base, *marks = get_args(hint)
        checks = [check for mark in marks if (check := _make_check(mark)) is not None]
        return functools.reduce(lambda told, mark: Annotated[told, mark], [*marks, *checks], _read_marks(base))
    if get_origin(hint) is tuple:
        several: Any = GenericAlias(tuple, (_read_marks(get_args(hint)[0]), ...))
        return Annotated[several, Field(strict=False)]
    if get_origin(hint) is UnionType or get_origin(hint) is Union:
        return functools.reduce(lambda one, other: one | other, map(_read_marks, get_args(hint)))
    return hint


def _make_check(mark: Any) -> AfterValidator | None:
    if isinstance(mark, Member):
        return make_member_check(mark.family)
    return AfterValidator(_check_absolute) if isinstance(mark, Folder) else None


def _check_absolute(path: str) -> str:
    if not path.startswith("/") or path.strip("/") == "":
        raise ValueError(f"found {path!r}, expected the absolute path of a folder, e.g. '/mnt/nvme'")
    return path
