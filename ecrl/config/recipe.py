"""Recipes: the engine and options of a variant. A variant without a table is the engine of its name, with defaults."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ecrl.config.options import get_legacy_options

REFERENCE = "reference"  # no checkpoints, no failures; it takes no table
ENGINE = "engine"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An engine and a value for each of its options. name: the variant that the recipe defines."""

    name: str
    engine: str
    options: Mapping[str, Any]

    @classmethod
    def from_table(cls, name: str, table: Mapping[str, Any]) -> "Recipe":
        """The recipe in a resolved table `[variants.NAME]`."""
        return cls(name=name, engine=table[ENGINE], options={k: v for k, v in table.items() if k != ENGINE})

    def to_identity(self) -> dict[str, Any] | None:
        """The engine and the options that differ from their legacy values.

        None for an engine under its own name whose options all have their legacy values.
        """
        # Version 0.1.0 had no recipes: such a run must keep its hash.
        legacy = get_legacy_options("engine", self.engine)
        told = {name: value for name, value in self.options.items() if name not in legacy or value != legacy[name]}
        return {ENGINE: self.engine, **told} if told or self.engine != self.name else None
