"""Extensions of a matrix: whether a matrix extends another one, and what it adds."""

from collections.abc import Mapping, Sequence
from typing import Any

from ecrl.config.matrix import Matrix

# Axes that may grow: an extension keeps every old value.
_AXES = ("datasets", "models", "checkpoint_every", "max_inflight", "seeds", "variants")


def find_additions(old: Matrix, new: Matrix) -> list[str] | None:
    """The values that `new` adds to `old`, one text per axis.

    None if `new` is no extension: it removes or changes something, or adds nothing.
    """
    before, after = old.content, new.content
    old_axes, new_axes = before.pop("matrix"), after.pop("matrix")
    old_failures, new_failures = before.pop("failures"), after.pop("failures")
    old_own, new_own = before.pop("axes", {}), after.pop("axes", {})
    old_recipes, new_recipes = before.pop("variants", {}), after.pop("variants", {})
    if before != after or _drop_keys(old_axes, _AXES) != _drop_keys(new_axes, _AXES):
        return None
    if any(new_failures.get(label) != entries for label, entries in old_failures.items()):
        return None
    if any(new_recipes.get(variant) != old_recipes.get(variant) for variant in old_axes["variants"]):
        return None
    if old_own.keys() != new_own.keys():
        return None
    if any(value not in new_own[key] for key, values in old_own.items() for value in values):
        return None
    if any(value not in new_axes[axis] for axis in _AXES for value in old_axes[axis]):
        return None
    added = {axis: [v for v in new_axes[axis] if v not in old_axes[axis]] for axis in _AXES}
    added |= {key: [v for v in values if v not in old_own[key]] for key, values in new_own.items()}
    added["failures"] = [label for label in new_failures if label not in old_failures]
    told = [f"{axis}: {', '.join(map(str, values))}" for axis, values in added.items() if values]
    return told or None


def _drop_keys(table: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key not in keys}
