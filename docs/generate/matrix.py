"""docs/matrix.md: every key of a matrix file, from the classes that validate it and from what plugins declare."""

import dataclasses
from collections.abc import Iterator
from typing import Any, get_type_hints

from docs.generate.field_docs import get_field_docs
from docs.generate.pages import NOTICE, format_table, join_blocks
from docs.generate.types import describe, format_value
from ecrl import plugins
from ecrl.config import failure_entry
from ecrl.config.matrix import Axes, Claim, Experiment, Matrix, RunOptions
from ecrl.config.options import get_declared_options
from ecrl.config.train import CheckpointSettings, TrainSettings
from ecrl.records.columns import CLAIM_METRICS

_TABLES = (Experiment, Axes, TrainSettings, CheckpointSettings, RunOptions, Claim)
_HEADERS = ("key", "type", "default", "meaning")
# family -> the key that its members stand in
_FAMILIES = {
    "engine": "`matrix.variants`, and `engine` of `[variants.NAME]`",
    "model": "`matrix.models`",
    "dataset": "`matrix.datasets`",
    "failure kind": "`kind` of a failure",
    "launcher": "`train.launcher` and `matrix.launchers`",
}

_INTRODUCTION = """
# The matrix file

A matrix is a TOML file. It says which runs there are, how they train, where they fail and what is claimed. This page
lists every key. The shipped files in `matrices/` are commented examples.

- Unknown keys, wrong types and impossible values are found before anything starts. All of them are named in one pass,
  with file, line and key, and ecrl exits with 2.
- `[profiles.NAME]` holds keys of other tables (`train.steps = 40`); `--profile NAME` lays them over the file.
- Flags and environment variables are laid over both: flag > environment > profile > file. `--set KEY=VALUE` reaches
  every key. [commands.md](commands.md) lists the flags.
- The merged file is frozen as `<prefix>_matrix.toml` when a campaign begins. `resume` needs nothing else.
- A key that is not given has the default of this version. Beside a frozen campaign, a key that ecrl has only had since
  version 0.1.0 has that campaign's value.
- `[run]` says how runs are made, never what they are: a difference there is no other experiment, but for `device`.
  Neither is a path of `[checkpoint]`; as an axis, the values of `checkpoint.dir` make suites.
"""


def render_page() -> str:
    """The page."""
    tables = [block for kind in _TABLES for block in _render_table(kind)]
    return join_blocks([NOTICE, _INTRODUCTION, *tables, *_render_open_tables(), *_render_families()])


def _render_table(kind: type) -> Iterator[str]:
    title, _, rest = (kind.__doc__ or "").partition(": ")
    yield f"## {title}"
    yield _make_sentence(" ".join(rest.split()))
    yield format_table(_HEADERS, _list_rows(kind))
    if kind is Claim:
        yield f"Metrics of claims: {', '.join(f'`{name}`' for name in CLAIM_METRICS)}."


def _list_rows(kind: type) -> list[tuple[str, str, str, str]]:
    """One row for each field; a field without a meaning is an error of the class."""
    hints, docs = get_type_hints(kind, include_extras=True), get_field_docs(kind)
    return [
        (f"`{name}`", describe(hints[name]), _describe_default(default), docs[name])
        for name, default in _list_defaults(kind)
    ]


def _list_defaults(kind: Any) -> Iterator[tuple[str, Any]]:
    """(field, default); `...` for a field that has none."""
    if dataclasses.is_dataclass(kind):
        yield from ((f.name, ... if f.default is dataclasses.MISSING else f.default) for f in dataclasses.fields(kind))
        return
    yield from ((name, ... if field.is_required() else field.default) for name, field in kind.model_fields.items())


def _describe_default(value: Any) -> str:
    if value is ...:
        return "**needed**"
    return "" if value is None else f"`{format_value(value)}`"


def _render_open_tables() -> Iterator[str]:
    """The tables whose keys are names that the user chooses."""
    for meaning in get_field_docs(Matrix).values():
        title, _, rest = meaning.partition(": ")
        yield f"## {title}"
        yield _make_sentence(rest)
        if title == "`[failures]`":
            yield from _render_failures()


def _render_failures() -> Iterator[str]:
    _, _, forms = (failure_entry.__doc__ or "").partition("\n\n")
    yield f"```text\n{forms.strip()}\n```"
    yield "Keys of an entry; a kind may have options beside them:"
    yield format_table(_HEADERS, _list_rows(failure_entry.FailureEntry))
    phases = [(f"`{name}`", _list_phases(name)) for name in plugins.names("failure kind")]
    yield format_table(("kind", "phases that it strikes in, the default first"), phases)


def _list_phases(kind: str) -> str:
    return ", ".join(f"`{phase}`" for phase in plugins.declared("failure kind", kind)["phases"])


def _render_families() -> Iterator[str]:
    yield "## Names"
    yield "The names are those of files. [extending.md](extending.md) says how to add one."
    for family, place in _FAMILIES.items():
        names = plugins.names(family)
        yield f"### {family.capitalize()}s"
        yield f"In {place}."
        yield format_table(("name", "what it is"), [(f"`{name}`", _describe_member(family, name)) for name in names])
        yield from (block for name in names for block in _render_options(family, name))


def _describe_member(family: str, name: str) -> str:
    """What a member says of itself; engines may need what is not installed, and are not imported."""
    declared = plugins.declared(family, name).get("description")
    text = str(plugins.load(family, name).description if declared is None else declared)
    needed = plugins.extra(family, name)
    return text + (f"; needs `pip install 'ecrl[{needed[0]}]'`" if needed else "")


def _render_options(family: str, name: str) -> Iterator[str]:
    options = get_declared_options(family, name)
    if options:
        yield f"Options of `{name}`:"
        rows = [
            (f"`{option}`", _describe_option(told), f"`{format_value(told['default'])}`", told.get("help", ""))
            for option, told in options.items()
        ]
        yield format_table(("option", "type", "default", "meaning"), rows)


def _describe_option(told: Any) -> str:
    if "choices" in told:
        return "one of " + ", ".join(f"`{choice}`" for choice in told["choices"])
    hint = {"bool": bool, "int": int, "float": float, "str": str}[told["type"]]
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join([describe(hint), *(f"{word} {told[name]:g}" for name, word in words.items() if name in told)])


def _make_sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?")) else ".") if text else ""
