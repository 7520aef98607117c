"""Reads a matrix file: merges profile and overrides into it, then validates everything."""

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from typing import Any

from ecrl.config.axis_problems import (
    find_choice_problems,
    find_filter_problems,
    find_length_problems,
    find_task_problems,
    normalize_axes,
)
from ecrl.config.examples import list_matrix_files
from ecrl.config.failure_entry import FROZEN
from ecrl.config.hashing import fill_from, later_fields
from ecrl.config.job_problems import find_job_problems, find_job_warnings, name_script, resolve_job
from ecrl.config.matrix import DEFAULT_KIND, KIND, VARIANTS, Matrix, expand_steps, get_table
from ecrl.config.parallel_problems import find_parallel_problems
from ecrl.config.problems import Sources, find_backend_problems, find_schedule_problems, find_shape_problems
from ecrl.config.recipe_problems import (
    find_claim_problems,
    find_fallback_problems,
    find_refused_metrics,
    find_repeat_problems,
    find_unused_recipes,
    resolve_recipes,
)
from ecrl.config.toml_lines import Locator, find_first_bad_line
from ecrl.errors import InvalidMatrixError, add_code, did_you_mean, unknown_name


@dataclass(frozen=True)
class Override:
    """A value given on the command line or in the environment; `source` names the flag or variable.

    in_environment: it is a variable. loc: the path of the key in the file, of any depth, e.g. ("train", "steps").
    """

    loc: tuple[str, ...]
    value: Any
    source: str
    in_environment: bool = False


def load(
    path: Path,
    *,
    profile: str | None = None,
    overrides: Sequence[Override] = (),
    frozen: bool = False,
    existing: "Matrix | None" = None,
) -> Matrix:
    """Read, merge (file < profile < overrides) and validate a matrix.

    frozen: the file was written by `Matrix.to_toml`. Fields that its version did not know get their legacy values.
    existing: the matrix that is already frozen under the same prefix. Fields added after 0.1.0 that the file leaves
    out get their values from it.

    Raises:
        InvalidMatrixError: the file is unreadable, is not TOML, or has problems. The message lists all of them.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        raw = _write_out_dates(tomllib.loads(text))
    except FileNotFoundError:
        there = list_matrix_files()
        hint = f" There are: {', '.join(there)}" if there else ""
        raise InvalidMatrixError(
            "ECRL-201",
            f"{path}: no such matrix file.{did_you_mean(str(path), there)}{hint}\n"
            f"Name an existing file (to list them, type: ls {shlex.quote(str(path.parent))}), or write one: ecrl init",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidMatrixError("ECRL-202", f"{path}: cannot be read as UTF-8 text: {error}") from None
    except RecursionError:
        raise InvalidMatrixError(
            "ECRL-203", f"{path}: lists or tables are nested too deeply. Expected a few levels; correct the file."
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidMatrixError(
            "ECRL-203",
            f"{path}:{find_first_bad_line(text)}: not valid TOML: what begins there: {error}.\n"
            "Correct it and run the same command again.",
        ) from None

    sources = Sources(path, Locator(text), profile)
    problems: list[str] = []
    profiles = raw.pop("profiles", {})
    if not isinstance(profiles, Mapping) or not all(isinstance(table, Mapping) for table in profiles.values()):
        told = f"{sources.name(('profiles',))}: profiles: expected tables, e.g. [profiles.small]"
        problems += add_code("ECRL-211", [told])
    elif profile is not None:
        if profile in profiles:
            raw = _merge(raw, profiles[profile])
        else:
            none = f"found {profile!r}, but the file has no [profiles.*]"
            told = unknown_name("profile", profile, profiles) if profiles else none
            problems += add_code("ECRL-219", [f"--profile: {told}"])
    notes = [_describe_replacement(raw, override) for override in overrides if override.in_environment]
    for override in overrides:
        if override.loc == ("matrix", "failures"):  # selects schedules by name; it cannot define one
            raw["failures"] = _pick_schedules(raw.get("failures", {}), override, problems)
            continue
        raw = _merge(raw, _nest(override.loc, override.value))
        sources.overridden[override.loc] = override.source
    warnings = [] if existing is None else _list_kept_tables(path, raw, existing)
    if existing is not None:
        raw = fill_from(existing, expand_steps(raw))
    if not frozen:
        raw, job_problems = resolve_job(raw, sources)
        problems += add_code("ECRL-211", job_problems)
    raw, recipe_problems = resolve_recipes(raw, sources, frozen=frozen, existing=existing)
    raw, axis_problems = normalize_axes(raw, sources)
    problems += add_code("ECRL-214", recipe_problems) + add_code("ECRL-213", axis_problems)
    context: dict[str, Any] = {FROZEN: frozen, VARIANTS: tuple(get_table(raw, "variants"))}
    context |= name_script(raw)
    context[KIND] = get_table(raw, "experiment").get("kind", DEFAULT_KIND)
    problems += find_shape_problems(raw, sources, context)
    problems += add_code("ECRL-212", find_schedule_problems(raw, sources))
    problems += add_code("ECRL-217", find_backend_problems(raw, sources))
    problems += add_code("ECRL-215", find_filter_problems(raw, sources))
    if not frozen:
        problems += add_code("ECRL-216", find_refused_metrics(raw, sources, existing))
    # A flag may have narrowed the variants after the claims were written; the claims stay in the file.
    if not frozen and ("matrix", "variants") not in sources.overridden:
        problems += add_code("ECRL-216", find_claim_problems(raw, sources))
    if not frozen and (("matrix", "variants") not in sources.overridden or ("run", "aa") in sources.overridden):
        problems += add_code("ECRL-214", find_repeat_problems(raw, sources))
    _raise_if_any(problems)
    matrix = Matrix.model_validate(raw, context=context)
    if not frozen:
        problems = add_code("ECRL-215", find_choice_problems(matrix, sources))
        problems += add_code("ECRL-560", find_fallback_problems(matrix, sources))
        problems += add_code("ECRL-218", find_task_problems(matrix, sources))
        problems += add_code("ECRL-220", find_parallel_problems(matrix, sources))
        problems += add_code("ECRL-620", find_length_problems(matrix, sources))
        problems += add_code("ECRL-660", find_job_problems(matrix, sources))
        _raise_if_any(problems)
        warnings += find_job_warnings(matrix, sources)
    matrix.add_notes(notes)
    return matrix.add_warnings(warnings if frozen else [*warnings, *find_unused_recipes(raw, sources)])


def _write_out_dates(value: Any) -> Any:
    """The value with dates and times as the text that they are: no key takes one, and a name may look like one."""
    if isinstance(value, dict):
        return {key: _write_out_dates(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_write_out_dates(part) for part in value]
    return value.isoformat() if isinstance(value, date | time) else value


def _describe_replacement(raw: Mapping[str, Any], override: Override) -> str:
    """What a variable replaces in a file."""
    table, key = override.loc
    given = ",".join(map(str, override.value)) if isinstance(override.value, list) else override.value
    there = get_table(raw, table)
    what = f"replaces {table}.{key} = {there[key]}" if key in there else f"stands in for {table}.{key}"
    return f"{override.source}={given} (environment) {what}"


def _list_kept_tables(path: Path, raw: Mapping[str, Any], existing: Matrix) -> list[str]:
    """A warning for every table that the file leaves out and the frozen campaign has."""
    # Absent reads as in the campaign, because an older file may not know the table. Who has removed it is told so.
    return [
        f"{path}: {name}: not in this file; the frozen campaign's is kept. Another experiment needs another --prefix."
        for name, legacy in later_fields(Matrix).items()
        if name not in raw and getattr(existing, name) != legacy
    ]


def _raise_if_any(problems: Sequence[str]) -> None:
    if problems:
        again = f"Correct {'it' if len(problems) == 1 else 'them'} and run the same command again; nothing was started."
        raise InvalidMatrixError("ECRL-204", "\n".join([*problems, again]))


def _nest(loc: Sequence[str], value: Any) -> Any:
    """Nested tables with `value` at `loc`: ("train", "steps") -> {"train": {"steps": value}}."""
    return {loc[0]: _nest(loc[1:], value)} if loc else value


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into a copy of `base`: tables are merged key by key, other values are replaced."""
    result = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = _merge(result[key], value) if both_tables else value
    return result


def _pick_schedules(schedules: Any, override: Override, problems: list[str]) -> Any:
    if not isinstance(schedules, Mapping):
        return schedules  # `find_shape_problems` reports it
    unknown = [label for label in override.value if label not in schedules]
    told = [f"{override.source}: {unknown_name('failure schedule', label, schedules)}" for label in unknown]
    problems += add_code("ECRL-219", told)
    return {label: schedules[label] for label in override.value if label in schedules} or schedules
