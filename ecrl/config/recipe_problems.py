"""`[variants.NAME]`: completes the tables of recipes and finds their problems."""

import os
from collections.abc import Mapping
from typing import Any

from ecrl import plugins
from ecrl.config.axes import PLACE_KEY
from ecrl.config.kind import load_kind
from ecrl.config.matrix import DEFAULT_KIND, LABEL, Axes, Matrix, get_table
from ecrl.config.options import get_declared_options, validate_options
from ecrl.config.problems import Sources
from ecrl.config.recipe import ENGINE, REFERENCE
from ecrl.config.suite import name_repeat
from ecrl.errors import unknown_name


def resolve_recipes(
    raw: Mapping[str, Any], sources: Sources, *, frozen: bool, existing: Matrix | None
) -> tuple[dict[str, Any], list[str]]:
    """Complete the table of every variant, except engines without options. Returns the new `raw` and the problems.

    A missing option gets the engine's default. In a file that ecrl wrote (`frozen`) it gets its legacy value; in a
    user's file for a prefix that is already frozen (`existing`) it gets the value of that campaign, if it has one.
    """
    tables = raw.get("variants", {})
    if not isinstance(tables, Mapping):
        return dict(raw), []  # `find_shape_problems` reports it
    problems, resolved = [], dict[str, Any](tables)
    for variant, table in _list_tables(raw, tables):
        loc: tuple[str, ...] = ("variants", variant)
        where = f"{sources.name(loc)}: variants.{variant}"
        if not isinstance(table, Mapping):
            continue  # `find_shape_problems` reports it
        if (problem := _find_table_problem(variant, table)) is not None:
            problems.append(f"{where}: {problem}")
            continue
        engine = table[ENGINE]
        earlier = {} if existing is None else existing.variants.get(variant, {})
        kept = {k: v for k, v in earlier.items() if earlier.get(ENGINE) == engine and k != ENGINE}
        given = kept | {name: value for name, value in table.items() if name != ENGINE}
        options, told = validate_options("engine", engine, given, frozen=frozen)
        problems += [f"{sources.name((*loc, name))}: variants.{variant}.{name}: {text}" for name, text in told.items()]
        resolved[variant] = {ENGINE: engine, **options}
    return ({**raw, "variants": resolved} if resolved else dict(raw)), problems


def _list_tables(raw: Mapping[str, Any], tables: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(variant, table) of every table in the file, and of every listed engine that has options but no table."""
    listed = get_table(raw, "matrix").get("variants", Axes.model_fields["variants"].default)
    engines = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    implied = [
        (name, {ENGINE: name})
        for name in engines
        if name not in tables and name in plugins.names("engine") and get_declared_options("engine", name)
    ]
    return [*tables.items(), *implied]


def _find_table_problem(variant: str, table: Mapping[str, Any]) -> str | None:
    engines = plugins.names("engine")
    if variant == REFERENCE:
        return "found a table, expected none: the reference takes no checkpoints and has no options"
    if not LABEL.fullmatch(variant):
        return f"found the name {variant!r}, expected at most 40 letters, digits, '_', '-', '.'"
    if ENGINE not in table:
        hint = f', e.g. engine = "{variant}"' if variant in engines else f"; valid: {', '.join(engines)}"
        return f"found no engine, expected one{hint}"
    if table[ENGINE] not in engines:
        return f"engine: {unknown_name('engine', str(table[ENGINE]), engines)}"
    if variant in engines and table[ENGINE] != variant:
        return f"found engine = {table[ENGINE]!r} in a table named after another engine, expected another table name"
    return None


def find_unused_recipes(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """A warning for every table of a variant that `matrix.variants` does not list."""
    listed = get_table(raw, "matrix").get("variants", [])
    return [
        f"{sources.name(('variants', name))}: variants.{name}: not listed in matrix.variants, so it is not run"
        for name in get_table(raw, "variants")
        if name not in listed
    ]


def find_repeat_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """Variants in `run.aa` that this matrix does not run, or whose repeat has the name of another variant.

    Unknown variants are reported elsewhere.
    """
    variants = get_table(raw, "matrix").get("variants", Axes.model_fields["variants"].default)
    named = get_table(raw, "run").get("aa")
    if not isinstance(variants, list) or not isinstance(named, list):
        return []
    known = {REFERENCE, *plugins.names("engine"), *get_table(raw, "variants")}
    place = f"{sources.name(('run', 'aa'))}: run.aa: "
    missing = [name for name in named if isinstance(name, str) and name in known and name not in variants]
    taken = [name for name in named if isinstance(name, str) and name_repeat(name) in variants]
    return [place + unknown_name("variant of this matrix", name, map(str, variants)) for name in missing] + [
        f"{place}found {name!r}, whose repeat is called {name_repeat(name)!r}, expected no variant of that name"
        for name in taken
    ]


def find_refused_metrics(raw: Mapping[str, Any], sources: Sources, existing: Matrix | None) -> list[str]:
    """Claims by metrics that mislead, unless the matrix that is already frozen has one by the same metric."""
    kind = get_table(raw, "experiment").get("kind", DEFAULT_KIND)
    claims = raw.get("claims")
    if kind not in plugins.names("experiment") or not isinstance(claims, list):
        return []
    refused = load_kind(kind).refused_metrics
    kept = {claim.metric for claim in existing.claims} if existing is not None else set()
    named = [(index, claim.get("metric")) for index, claim in enumerate(claims) if isinstance(claim, Mapping)]
    return [
        f"{sources.place(('claims', index, 'metric'))}: found {metric!r}: {refused[metric]}"
        for index, metric in named
        if isinstance(metric, str) and metric in refused and metric not in kept
    ]


def find_claim_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """Claims about known variants that this matrix does not run. Unknown variants are reported elsewhere."""
    variants = get_table(raw, "matrix").get("variants", Axes.model_fields["variants"].default)
    claims = raw.get("claims")
    if not isinstance(variants, list) or not isinstance(claims, list):
        return []
    known = {*plugins.names("engine"), *get_table(raw, "variants")}
    problems = []
    for index, claim in enumerate(claims):
        if not isinstance(claim, Mapping):
            continue
        compared = claim.get("compare")
        told = [("compare", name) for name in compared] if isinstance(compared, list) else []
        told += [("of", claim["of"])] if isinstance(claim.get("of"), str) else []
        problems += [
            f"{sources.place(('claims', index, key))}: "
            + unknown_name("variant of this matrix", name, map(str, variants))
            for key, name in told
            if isinstance(name, str) and name in known and name not in variants
        ]
    return problems


def find_fallback_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """Places of a valid matrix that stand in for themselves, and its engines that cannot write to a second place."""
    key = ("checkpoint", "fallback_dirs")
    dirs = matrix.axes.get(PLACE_KEY, [matrix.checkpoint_settings.dir])
    fallbacks = list(map(os.path.normpath, matrix.checkpoint.fallback_dirs))
    named = {os.path.normpath(str(place)) for place in dirs if place is not None}
    problems = [
        f"{sources.place(key)}: found {folder!r} twice, expected other folders than checkpoint.dir, each once"
        for folder in dict.fromkeys(fallbacks)
        if folder in named or fallbacks.count(folder) > 1
    ]
    unable = [name for name in matrix.engines if not plugins.declared("engine", name).get("falls_back")]
    if not fallbacks or not unable:
        return problems
    able = [name for name in plugins.names("engine") if plugins.declared("engine", name).get("falls_back")]
    return [
        *problems,
        f"{sources.place(key)}: found it beside {', '.join(unable)}, expected it with {', '.join(able)} alone: no other"
        " engine can write a checkpoint that one disk refuses to the next",
    ]
