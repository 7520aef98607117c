"""The variants of a campaign: their recipes, and the two of the main comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecrl.config.axes import format_value, split_key
from ecrl.config.matrix import Matrix
from ecrl.config.options import get_declared_options
from ecrl.config.recipe import REFERENCE, Recipe
from ecrl.errors import EcrlError, unknown_name

BLOCKING, OVERLAPPED = "blocking", "overlapped"


def find_main_pair(variants: Sequence[str]) -> tuple[str, str] | None:
    """The two variants of the main comparison: overlapped against blocking, otherwise the last against the first.

    The reference is never one of them. None if fewer than two variants are left.
    """
    own = [variant for variant in variants if variant != REFERENCE]
    if {BLOCKING, OVERLAPPED} <= set(own):
        return OVERLAPPED, BLOCKING
    return (own[-1], own[0]) if len(own) > 1 else None


def parse_pair(text: str, variants: Sequence[str]) -> tuple[str, str]:
    """The two variants in a text such as 'overlapped,blocking'.

    Raises:
        EcrlError: it does not name two different variants of these.
    """
    found = [part.strip() for part in text.split(",") if part.strip()]
    for name in found:
        if name not in variants:
            raise EcrlError("ECRL-102", f"--compare: {unknown_name('variant', name, variants)}")
    if len(set(found)) != 2 or len(found) != 2:
        raise EcrlError(
            "ECRL-102",
            f"--compare: found {text!r}, expected two different variants, A,B for A against B.\n"
            f"Variants here: {', '.join(variants)}.",
        )
    return found[0], found[1]


@dataclass(frozen=True)
class VariantRecipe:
    """A variant's engine and the options that differ from the engine's defaults. Option values are text."""

    variant: str
    engine: str
    options: Mapping[str, str]

    def __str__(self) -> str:
        """'blocking', 'fast (overlapped)', 'ram (memory, disk_every 10)', 'memory (disk_every 5 or 10)'."""
        told = [] if self.engine == self.variant else [self.engine]
        told += [f"{option} {value}" for option, value in self.options.items()]
        return f"{self.variant} ({', '.join(told)})" if told else self.variant


def list_recipes(matrix: Matrix) -> dict[str, VariantRecipe]:
    """The recipe of every variant except the reference, which has none."""
    recipes = {variant: matrix.get_recipe(variant) for variant in matrix.matrix.variants if variant != REFERENCE}
    return {
        variant: VariantRecipe(variant, recipe.engine, _list_told_options(recipe, matrix))
        for variant, recipe in ((v, r or Recipe(name=v, engine=v, options={})) for v, r in recipes.items())
    }


def _list_told_options(recipe: Recipe, matrix: Matrix) -> dict[str, str]:
    """The options that differ from the engine's defaults, as text. An option that is an axis has all of its values."""
    defaults = {option: told["default"] for option, told in get_declared_options("engine", recipe.engine).items()}
    axes = {split_key(key): values for key, values in matrix.axes.items()}
    values = {option: axes.get(("variants", recipe.name, option), [value]) for option, value in recipe.options.items()}
    return {
        option: " or ".join(map(format_value, own)) for option, own in values.items() if own != [defaults.get(option)]
    }
