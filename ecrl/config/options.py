"""Options of plugins: the declarations of a family's members, and the validation of the values that a user gives.

A member declares its options as a literal argument of its `PLUGIN`, read without importing it:

options={"thread_count": {"type": "int", "default": 1, "legacy": 1, "ge": 1, "help": "threads that write"}}

type      bool, int, float or str; choices: the only valid values; ge, gt, le, lt: bounds of a number
default   value if a user's file does not give the option; may change from version to version
legacy    value for a file that ecrl wrote before the option existed; never changes, and is left out of hashes
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from ecrl import plugins
from ecrl.errors import unknown_name

_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "bool": (bool, "true or false"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "str": (str, "a text"),
}
_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "ge": (">=", lambda value, bound: value >= bound),
    "gt": (">", lambda value, bound: value > bound),
    "le": ("<=", lambda value, bound: value <= bound),
    "lt": ("<", lambda value, bound: value < bound),
}


def get_declared_options(family: str, name: str) -> dict[str, Mapping[str, Any]]:
    """The declarations of one member's options, by name. Does not import the member."""
    return dict(plugins.declared(family, name).get("options", {}))


def get_legacy_options(family: str, name: str) -> dict[str, Any]:
    """The legacy values of one member's options: the behaviour of version 0.1.0."""
    return {option: told["legacy"] for option, told in get_declared_options(family, name).items()}


def validate_options(
    family: str, name: str, given: Mapping[str, Any], *, frozen: bool = False
) -> tuple[dict[str, Any], dict[str, str]]:
    """Check the given options of a member and complete them.

    frozen: `given` is from a file that ecrl wrote; a missing option then gets its legacy value, else its default.
    Returns the value of every declared option, and one sentence per invalid option, by its name. An invalid option has
    the value of a missing one.
    """
    options = get_declared_options(family, name)
    resolved = {option: told["legacy" if frozen else "default"] for option, told in options.items()}
    problems = {}
    for option, value in given.items():
        if option not in options:
            known = unknown_name("option", option, options) if options else f"unknown option {option!r}; it has none"
            problems[option] = f"{family} {name}: {known}"
        elif not _is_valid(value, options[option]):
            problems[option] = f"found {value!r}, expected {_describe(options[option])}"
        else:
            resolved[option] = float(value) if options[option]["type"] == "float" else value
    return resolved, problems


def _is_valid(value: Any, told: Mapping[str, Any]) -> bool:
    types, _ = _TYPES[told["type"]]
    if not isinstance(value, types) or (isinstance(value, bool) and told["type"] != "bool"):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False  # canonical JSON, and so a hash, allows no NaN or infinity
    holds = all(test(value, told[bound]) for bound, (_, test) in _BOUNDS.items() if bound in told)
    return holds and ("choices" not in told or value in told["choices"])


def _describe(told: Mapping[str, Any]) -> str:
    if "choices" in told:
        return "one of " + ", ".join(map(repr, told["choices"]))
    bounds = " and ".join(f"{sign} {told[bound]:g}" for bound, (sign, _) in _BOUNDS.items() if bound in told)
    return f"{_TYPES[told['type']][1]} {bounds}".rstrip()
