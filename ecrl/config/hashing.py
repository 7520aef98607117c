"""Identity by content: which fields identify a run, a suite or an experiment, and the hash of these fields.

Every field of a settings class, table or record belongs to one of three classes, declared in its annotation:

fixed   (no mark)                       always hashed, None included: the fields of version 0.1.0
later   Annotated[int, Later(legacy=1)] added since: hashed only if the value differs from `legacy`
never   Annotated[str, NEVER]           never hashed, e.g. places, names and timeouts

`legacy` is the value that behaves like version 0.1.0. It never changes, though a field's default may; therefore a hash
made by any version stays valid. A file that an older ecrl wrote lacks later fields; `fill_legacy` adds them.
"""

# Standard library only: workers load this module before anything else.
import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Later:
    """Marks a field that was added after version 0.1.0. A field that may be None must have the legacy value None."""

    # TOML has no null: None can be neither written nor given in a matrix file.

    legacy: Any


@dataclass(frozen=True)
class _Never:
    """Marks a field that belongs to no identity."""


NEVER = _Never()


def identity(value: Any) -> Any:
    """The part of `value` that identifies it, as plain JSON values. Every identity hash is made from it.

    A class may define `to_identity` to replace the field-by-field identity.
    """
    if hasattr(type(value), "to_identity"):
        return value.to_identity()
    if _is_record(type(value)):
        return {name: identity(field) for name, field in _list_identity_fields(value)}
    if isinstance(value, Mapping):
        return {str(key): identity(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [identity(item) for item in value]
    return value


def canonical_json(content: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal contents give equal texts."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_hash(content: Any) -> str:
    """SHA-256 (64 hex characters) of the canonical JSON of `content`."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def slug(text: str) -> str:
    """`text` in lower case. Everything except letters, digits and dots becomes single hyphens."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")


def later_fields(kind: type) -> dict[str, Any]:
    """The later fields of a dataclass or pydantic model, each with its legacy value."""
    return {name: mark.legacy for name, mark in _marks(kind) if isinstance(mark, Later)}


def later_values(value: Any) -> list[tuple[str, Any]]:
    """(name, value) of every later field that differs from its legacy value, ordered by name."""
    later = later_fields(type(value))
    return sorted((name, field) for name, field in _list_identity_fields(value) if name in later)


def fill_legacy(kind: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Add the missing later fields to `raw`, with their legacy values. raw: a `kind` as ecrl wrote it."""
    return later_fields(kind) | dict(raw)


def fill_from(value: Any, raw: Any) -> Any:
    """Add the missing later fields to `raw`, at any depth, with the values that they have in `value`.

    raw: what a user wrote. value: a validated model, or a collection of models, of the campaign that is already frozen
    under the prefix.
    """
    # A file keeps the meaning that it had when its prefix was frozen, even if a default has changed since.
    if _is_record(type(value)) and isinstance(raw, Mapping):
        if not _has_same_fields(value, raw):
            return raw
        filled = {name: fill_from(getattr(value, name), item) for name, item in raw.items() if hasattr(value, name)}
        for name, mark in _marks(type(value)):
            if name not in raw and isinstance(mark, Later):
                filled[name] = _plain(getattr(value, name))
            elif name not in raw and _has_later_fields(getattr(value, name)):
                filled[name] = fill_from(getattr(value, name), {})  # a table that the file leaves out
        return dict(raw) | {name: item for name, item in filled.items() if item is not None}
    if isinstance(value, Mapping) and isinstance(raw, Mapping):
        return {key: fill_from(value[key], item) if key in value else item for key, item in raw.items()}
    if isinstance(value, list | tuple) and isinstance(raw, list) and len(value) == len(raw):
        return [fill_from(old, new) for old, new in zip(value, raw, strict=True)]
    return raw


def _has_same_fields(value: Any, raw: Mapping[str, Any]) -> bool:
    """Whether `raw` describes a record with the fields of `value`.

    A class whose fields depend on the value of one field names that field in `decided_by`.
    """
    field = getattr(value, "decided_by", None)
    return field is None or raw.get(field, type(value).model_fields[field].default) == getattr(value, field)


def _is_record(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "model_fields")


def _has_later_fields(value: Any) -> bool:
    return _is_record(type(value)) and bool(later_fields(type(value)))


def _list_identity_fields(value: Any) -> list[tuple[str, Any]]:
    """(name, value) of every field that is part of the identity."""
    found = []
    for name, mark in _marks(type(value)):
        field = getattr(value, name)
        is_legacy = isinstance(mark, Later) and identity(field) == identity(mark.legacy)
        if not isinstance(mark, _Never) and not is_legacy:
            found.append((name, field))
    return found


_Marks = tuple[tuple[str, Later | _Never | None], ...]
_known_marks: dict[type, _Marks] = {}  # by class: a campaign needs the same few marks a hundred thousand times


def _marks(kind: type) -> _Marks:
    """(name, mark) of every field of a dataclass or pydantic model; no mark: fixed."""
    if kind not in _known_marks:
        _known_marks[kind] = _read_marks(kind)
    return _known_marks[kind]


def _read_marks(kind: type) -> _Marks:
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        annotated = {field.name: getattr(hints[field.name], "__metadata__", ()) for field in dataclasses.fields(kind)}
    else:
        annotated = {name: tuple(field.metadata) for name, field in getattr(kind, "model_fields").items()}  # noqa: B009
    marks = ((name, [m for m in metadata if isinstance(m, Later | _Never)]) for name, metadata in annotated.items())
    return tuple((name, found[0] if found else None) for name, found in marks)


def _plain(value: Any) -> Any:
    """`value` in the form that it has in a file: models become tables with every field, tuples become lists."""
    if _is_record(type(value)):
        return {name: _plain(getattr(value, name)) for name, _ in _marks(type(value))}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
