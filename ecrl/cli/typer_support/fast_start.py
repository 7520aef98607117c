"""Option values converted without loading pydantic."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


class _OptionConverter:
    """Typer's place for a parameter's conversion. Its own imports pydantic (70 ms) to make a str of a str; this
    knows the few types that ecrl's options have."""

    def __init__(self, kind: type, many: bool) -> None:
        self._kind, self._many = kind, many

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command's function takes it."""
        if value is None:
            return () if self._many else None
        if self._many:
            return [self._convert_one(each, param, ctx) for each in value]
        return self._convert_one(value, param, ctx)

    def _convert_one(self, value: Any, param: Any, ctx: Any) -> Any:
        if self._kind in (int, float):
            return _number(value, self._kind, param, ctx)
        if self._kind is bool and isinstance(value, str):  # from the environment
            return value.strip().lower() in ("1", "true", "yes", "on")
        return Path(value) if self._kind is Path else value


def _number(value: Any, kind: type, param: Any, ctx: Any) -> Any:
    expected = "a whole number" if kind is int else "a number"
    try:
        number = kind(value)
    except ValueError:
        raise typer.BadParameter(f"found {value!r}, expected {expected}", ctx=ctx, param=param) from None
    if param.min is not None and number < param.min:
        raise typer.BadParameter(f"found {value}, expected at least {param.min}", ctx=ctx, param=param)
    if param.max is not None and number > param.max:
        raise typer.BadParameter(f"found {value}, expected at most {param.max}", ctx=ctx, param=param)
    return number


@contextmanager
def convert_without_pydantic() -> Iterator[None]:
    """Give parameters of plain types a conversion of ours while the block runs. Where Typer has no such place (it is
    none of its public interface) nothing is changed, and commands start a little slower."""
    try:
        from typer.core import _TyperParameter as parameter
    except ImportError:
        yield
        return
    original = getattr(parameter, "get_runtime_param", None)
    if original is None:
        yield
        return

    def get_runtime_param(self: Any) -> Any:
        annotation = getattr(getattr(self, "type_descriptor", None), "annotation", None)
        kinds: dict[Any, tuple[type, bool]] = {kind: (kind, False) for kind in (str, bool, Path, int, float)}
        kinds[list[str]] = (str, True)
        return _OptionConverter(*kinds[annotation]) if annotation in kinds else original(self)

    parameter.get_runtime_param = get_runtime_param  # type: ignore[method-assign]
    try:
        yield
    finally:
        parameter.get_runtime_param = original  # type: ignore[method-assign]
