"""Normalizes `[axes]` and finds the problems of `[axes]`, of `[[exclude]]` and of the claims' `where`."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ecrl.config.axes import LAUNCHER_KEY, PLACE_KEY, SUITE_AXES, flatten_axes, matches, split_key
from ecrl.config.hashing import NEVER
from ecrl.config.matrix import CheckpointTable, Matrix, TrainTable, get_table
from ecrl.config.options import get_declared_options, validate_options
from ecrl.config.problems import Sources, describe_problem
from ecrl.config.recipe import ENGINE
from ecrl.config.suite import expand_matrix, list_train_settings
from ecrl.config.task_fit import explain_unfit_pair, find_unfit_pairs, get_context_length
from ecrl.errors import unknown_name

_TABLES: dict[str, type[BaseModel]] = {"train": TrainTable, "checkpoint": CheckpointTable}


def normalize_axes(raw: Mapping[str, Any], sources: Sources) -> tuple[dict[str, Any], list[str]]:
    """Put every axis under its dotted key, convert its values to the type of the setting, move launchers to `[matrix]`.

    Returns the new `raw` and the problems of the axes. Invalid values stay unchanged.
    """
    axes = raw.get("axes", {})
    if not isinstance(axes, Mapping):
        return dict(raw), []  # `find_shape_problems` reports it
    problems, own, result = [], dict[str, Any](), dict(raw)
    for key, values in flatten_axes(axes):
        where = f"{sources.name(('axes', key))}: axes.{key}"
        if not isinstance(values, list):
            problems.append(f"{where}: found {values!r}, expected a list of values, e.g. [{values!r}]")
        elif (problem := _find_key_problem(raw, key)) is not None:
            problems.append(f"{where}: {problem}")
        elif key == LAUNCHER_KEY:
            if "launchers" in get_table(raw, "matrix"):
                problems.append(f"{where}: found matrix.launchers too, expected one of them: they are one axis")
            result["matrix"] = {**get_table(raw, "matrix"), "launchers": values}
        else:
            own[key], told = _read_values(raw, key, values)
            problems += [f"{where}: {problem}" for problem in told]
    if own or "axes" in raw:
        result["axes"] = own
    return result, problems


def _find_key_problem(raw: Mapping[str, Any], key: str) -> str | None:
    """The reason why a key cannot be an axis; None if it can."""
    table, *rest = split_key(key)
    if table == "run":
        return "found a key of [run], which is no axis; expected a key of train, checkpoint or variants.NAME"
    if table in _TABLES:
        valid = _TABLES[table].model_fields
        if rest[0] not in valid:
            return unknown_name(f"key of [{table}]", rest[0], valid)
        if NEVER in valid[rest[0]].metadata and key != PLACE_KEY:
            return "identifies no suite, so its values would make equal suites; expected another key"
        return None
    if table != "variants" or not all(rest):
        return unknown_name("table", table, [*_TABLES, "variants.NAME"])
    variant, option = rest
    recipe = get_table(get_table(raw, "variants"), variant)
    if not recipe:
        return unknown_name("recipe", variant, get_table(raw, "variants"))
    if variant not in get_table(raw, "matrix").get("variants", [variant]):
        return f"variant {variant!r} is not listed in matrix.variants: the axis would make equal suites"
    if option == ENGINE:
        return "found the key engine, expected an option of the engine: each engine is a variant of its own"
    options = get_declared_options("engine", str(recipe.get(ENGINE)))
    return None if option in options else unknown_name(f"option of the engine {recipe.get(ENGINE)}", option, options)


def _read_values(raw: Mapping[str, Any], key: str, values: list[Any]) -> tuple[list[Any], list[str]]:
    """The values of an axis, converted to the type of the setting (1 becomes 1.0 for a float), and their problems."""
    table, *rest = split_key(key)
    read, problems = list[Any](), list[str]()
    for value in values:
        if table == "variants":
            engine = str(get_table(get_table(raw, "variants"), rest[0]).get(ENGINE))
            resolved, told = validate_options("engine", engine, {rest[1]: value})
            read.append(resolved[rest[1]])
            problems += told.values()
            continue
        try:
            valid = _TABLES[table].model_validate({**get_table(raw, table), rest[0]: value})
        except ValidationError as error:
            own = [e for e in error.errors() if e["loc"][:1] == (rest[0],)]
            problems += map(describe_problem, own)
            read.append(value)
        else:
            read.append(getattr(valid, rest[0]))
    return read, problems


def list_axis_names(raw: Mapping[str, Any]) -> list[str]:
    """The axis names that a filter of this matrix may use."""
    return [*SUITE_AXES, *get_table(raw, "axes")]


def find_filter_problems(raw: Mapping[str, Any], sources: Sources) -> list[str]:
    """Filters, in `[[exclude]]` and in `where` of claims, that name an unknown axis; empty tables in `[[exclude]]`."""
    valid, problems = list_axis_names(raw), []
    filters: list[tuple[tuple[str | int, ...], Any]] = []
    for table, key in (("exclude", None), ("claims", "where")):
        entries = raw.get(table, [])
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            if isinstance(entry, Mapping):
                loc: tuple[str | int, ...] = (table, index) if key is None else (table, index, key)
                filters.append((loc, entry if key is None else entry.get(key)))
    for loc, chosen in filters:
        if isinstance(chosen, Mapping):
            unknown = [name for name in chosen if name not in valid]
            problems += [f"{sources.place((*loc, name))}: {unknown_name('axis', name, valid)}" for name in unknown]
            if not chosen and loc[0] == "exclude":
                problems.append(f"{sources.place(loc)}: is empty, expected at least one axis")
    return problems


def find_task_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """Pairs of model and data set that cannot be trained together but have a suite in a valid matrix."""
    axes = matrix.matrix
    return [
        f"{sources.name(('matrix', 'models'))}: matrix.models: {explain_unfit_pair(dataset, model)}"
        for dataset, model in find_unfit_pairs(axes.datasets, axes.models)
        if any((suite.dataset, suite.model) == (dataset, model) for suite in expand_matrix(matrix))
    ]


def find_length_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """Sequences that are longer than a model takes, in a suite of a valid matrix."""
    problems = []
    longest = max(train.sequence_length for train in list_train_settings(matrix))
    for model in matrix.matrix.models:
        limit = get_context_length(model)
        if limit is None or limit >= longest:
            continue
        found = {suite.train.sequence_length for suite in expand_matrix(matrix) if suite.model == model}
        problems += [
            f"{sources.name(('train', 'sequence_length'))}: train.sequence_length: found {length}, expected at most"
            f" {limit}, the context of the model {model!r}"
            for length in sorted(found)
            if length > limit
        ]
    return problems


def find_choice_problems(matrix: Matrix, sources: Sources) -> list[str]:
    """Filters of a valid matrix that exclude every suite, or that leave a claim without a suite."""
    if not len(expand_matrix(matrix)):
        return [f"{sources.name(('exclude',))}: exclude: no suite is left, expected at least one"]
    return [
        f"{sources.place(('claims', index, 'where'))}: found {claim.where}, which matches no suite"
        for index, claim in enumerate(matrix.claims)
        if claim.where and not any(matches(claim.where, suite.cell) for suite in expand_matrix(matrix))
    ]
