"""Which engine wrote a checkpoint folder, told by what lies in it: other formats than ecrl's have no COMMIT.json.

An engine declares its format by the literal `format` of its `PLUGIN`, read without importing it: the name of an
engine whose format it shares, or

format={"complete": ".metadata", "parts": ("*.distcp",)}

complete   the file without which the checkpoint is not there
parts      patterns of what is written before that; none for a format whose folder gets its name last

An engine that declares none writes ecrl's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ecrl import plugins

OWN_FORMAT = "ecrl"


@dataclass(frozen=True)
class Format:
    """A format of others. engine: the one that declares it. complete, parts: see above."""

    engine: str
    complete: str
    parts: tuple[str, ...] = ()


@cache
def load_formats() -> tuple[Format, ...]:
    """Every format that some engine declares."""
    told = {engine: plugins.declared("engine", engine).get("format") for engine in plugins.names("engine")}
    return tuple(
        Format(engine, found["complete"], tuple(found.get("parts", ())))
        for engine, found in told.items()
        if isinstance(found, Mapping)
    )


def has_own_format(engine: str) -> bool:
    """Whether an engine writes ecrl's own format."""
    return bool(plugins.declared("engine", engine).get("format", OWN_FORMAT) == OWN_FORMAT)


def find_complete_format(folder: Path) -> Format | None:
    """The format as which a folder holds a complete checkpoint."""
    return next((f for f in load_formats() if (folder / f.complete).is_file()), None)


def find_partial_format(folder: Path) -> Format | None:
    """The format as which a checkpoint was begun in a folder; None where that is removed meanwhile."""
    try:
        return next((f for f in load_formats() if any(any(folder.glob(part)) for part in f.parts)), None)
    except FileNotFoundError:
        return None
