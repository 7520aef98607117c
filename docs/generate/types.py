"""The type of a field in words: 'whole number, at least 1', 'one of `sgd`, `adamw`', 'list of texts'."""

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

# (one, several)
_WORDS = {
    bool: ("true or false", "truth values"),
    int: ("whole number", "whole numbers"),
    float: ("number", "numbers"),
    str: ("text", "texts"),
    Any: ("text or list", "values"),
}
_BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}
_LARGEST_SAID = 2**62  # beyond, a bound is what the format holds, and tells a reader nothing


def describe(hint: Any, *, several: bool = False) -> str:
    """A type hint in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *marks = get_args(hint)
        text = ", ".join([describe(inner, several=several), *_describe_bounds(marks)])
        return f"{text}; not empty" if any(_is_filled(mark) for mark in marks) else text
    if origin is Literal:
        return ("" if several else "one of ") + ", ".join(f"`{value}`" for value in get_args(hint))
    if origin in (list, tuple):
        item, *_ = get_args(hint)
        return f"list of {describe(item, several=True)}"
    if origin is dict:
        return "table"
    if origin in (Union, types.UnionType):
        known = [part for part in get_args(hint) if part is not type(None)]
        return " or ".join(dict.fromkeys(describe(part, several=several) for part in known))
    return _WORDS[hint][several]


def _describe_bounds(marks: Iterable[Any]) -> list[str]:
    found = []
    for mark in marks:
        if isinstance(mark, FieldInfo):
            found += _describe_bounds(mark.metadata)
        elif type(mark) in _BOUNDS:
            word, attribute = _BOUNDS[type(mark)]
            bound = getattr(mark, attribute)
            found += [f"{word} {bound:g}"] if bound < _LARGEST_SAID else []
    return found


def _is_filled(mark: Any) -> bool:
    """Whether a mark asks for at least one item or character."""
    inner = mark.metadata if isinstance(mark, FieldInfo) else [mark]
    return any(isinstance(one, MinLen) and one.min_length == 1 for one in inner)


def format_value(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case list() | tuple():
            return f"[{', '.join(map(format_value, value))}]"
        case dict():
            return f"{{ {', '.join(f'{key} = {format_value(item)}' for key, item in value.items())} }}"
    return str(value)
