"""Which engine wrote a checkpoint folder, judged by the files in it. Only ecrl's own format has a COMMIT.json.

An engine declares its format as the literal `format` of its `PLUGIN`, which is read without importing the engine.
The value is the name of another engine that has the same format, or

format={"complete": ".metadata", "parts": ("*.distcp",)}

complete   the file that every complete checkpoint has
parts      patterns of the files written before it; empty for a format whose folder gets its final name last

An engine without a declared format writes ecrl's own format.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ecrl import plugins

OWN_FORMAT = "ecrl"


@dataclass(frozen=True)
class Format:
    """A format other than ecrl's own. engine: the engine that declares it. complete, parts: see above."""

    engine: str
    complete: str
    parts: tuple[str, ...] = ()


@cache
def load_formats() -> tuple[Format, ...]:
    """Every format other than ecrl's own that an engine declares."""
    told = {engine: plugins.declared("engine", engine).get("format") for engine in plugins.names("engine")}
    return tuple(
        Format(engine, found["complete"], tuple(found.get("parts", ())))
        for engine, found in told.items()
        if isinstance(found, Mapping)
    )


def has_own_format(engine: str) -> bool:
    """Whether `engine` writes ecrl's own format."""
    return bool(plugins.declared("engine", engine).get("format", OWN_FORMAT) == OWN_FORMAT)


def find_complete_format(folder: Path) -> Format | None:
    """The format of the complete checkpoint in `folder`, or None if there is none."""
    return next((f for f in load_formats() if (folder / f.complete).is_file()), None)


def find_partial_format(folder: Path) -> Format | None:
    """The format of the checkpoint that was started in `folder`; None if there is none or the folder is removed."""
    try:
        return next((f for f in load_formats() if any(any(folder.glob(part)) for part in f.parts)), None)
    except FileNotFoundError:
        return None
