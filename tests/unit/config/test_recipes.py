"""Variants are recipes: an engine with its options under a name of its own, and every mistake told."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecrl.config.hashing import identity
from ecrl.config.load import Override, load
from ecrl.config.matrix import Matrix
from ecrl.config.recipe import Recipe
from ecrl.config.run import RunSpec
from ecrl.config.suite import build_run_specs, expand_matrix
from tests.errors import has_error
from tests.unit.config.test_matrix import GOOD, problems

VARIANTS = 'variants = ["reference", "blocking", "overlapped", "dcp", "threads", "flushed"]'
TABLES = """
[variants.threads]
engine = "dcp"
thread_count = 4
[variants.flushed]
engine = "torch-save"
fsync = true
"""

PLACE: dict[str, Any] = {"prefix": "p", "device": "cpu", "data_root": None, "claims_hash": ""}


def written(tmp_path: Path, tables: str = TABLES, variants: str = VARIANTS) -> Path:
    path = tmp_path / "m.toml"
    path.write_text(GOOD.replace("seeds = [1337]", f"seeds = [1337]\n{variants}", 1) + tables)
    return path


def specs(matrix: Matrix, index: int = 0) -> dict[str, RunSpec]:
    suite = expand_matrix(matrix)[index]
    told: dict[str, Any] = {"prefix": "p", "device": "cpu", "data_root": None, "claims_hash": "c"}
    return {spec.variant: spec for spec in build_run_specs(suite, 1337, suite.variants, **told)}


def test_a_recipe_is_an_engine_with_its_options_under_a_name_of_its_own(tmp_path: Path) -> None:
    found = specs(load(written(tmp_path)))
    assert (found["threads"].engine, found["threads"].engine_options) == ("dcp", {"thread_count": 4})
    assert (found["flushed"].engine, found["flushed"].engine_options) == ("torch-save", {"fsync": True})
    assert (found["reference"].engine, found["blocking"].engine) == (None, "blocking")
    assert found["reference"].recipe is found["blocking"].recipe is None


def test_an_engine_without_a_table_has_its_defaults_and_the_hash_of_version_0_1_0(tmp_path: Path) -> None:
    dcp = specs(load(written(tmp_path)))["dcp"]
    assert dcp.engine_options == {"thread_count": 1}, "run.json is written whole"
    assert "recipe" not in identity(dcp), "what version 0.1.0 ran is no recipe"
    plain = specs(load(written(tmp_path, "", 'variants = ["dcp", "blocking", "overlapped"]')))["dcp"]
    assert plain.hash == dcp.hash


def test_the_recipe_stands_in_the_text_of_the_run_without_what_is_as_it_always_was(tmp_path: Path) -> None:
    found = specs(load(written(tmp_path)))
    assert identity(found["threads"])["recipe"] == {"engine": "dcp", "thread_count": 4}
    renamed = Recipe(name="other", engine="dcp", options={"thread_count": 1})
    assert renamed.to_identity() == {"engine": "dcp"}, "another name is another recipe"
    assert found["threads"].hash != found["dcp"].hash


def test_run_json_keeps_the_recipe(tmp_path: Path) -> None:
    spec, path = specs(load(written(tmp_path)))["threads"], tmp_path / "run.json"
    spec.write(path)
    assert RunSpec.read(path) == spec
    raw = json.loads(path.read_text())
    assert raw["recipe"] == {"name": "threads", "engine": "dcp", "options": {"thread_count": 4}}


def test_the_experiment_holds_recipes_that_are_listed_and_no_others(tmp_path: Path) -> None:
    matrix = load(written(tmp_path))
    assert matrix.content["variants"] == {
        "threads": {"engine": "dcp", "thread_count": 4},
        "flushed": {"engine": "torch-save", "fsync": True},
    }
    unlisted = load(written(tmp_path, TABLES, 'variants = ["reference", "blocking", "overlapped", "dcp"]'))
    assert "variants" not in unlisted.content
    line = len(GOOD.splitlines()) + 3
    assert f"m.toml:{line}: variants.threads: " in unlisted.warnings[0]
    assert "matrix.variants" in unlisted.warnings[0]
    assert len(unlisted.warnings) == 2


def test_a_frozen_matrix_holds_complete_recipes_and_reads_back(tmp_path: Path) -> None:
    matrix = load(written(tmp_path))
    frozen = tmp_path / "frozen.toml"
    frozen.write_text(matrix.to_toml("x"))
    again = load(frozen, frozen=True)
    assert again == matrix
    assert again.variants["dcp"] == {"engine": "dcp", "thread_count": 1}
    assert load(written(tmp_path), existing=again).content == matrix.content


def test_an_option_of_a_recipe_may_be_an_axis(tmp_path: Path) -> None:
    matrix = load(written(tmp_path, TABLES + '[axes]\n"variants.threads.thread_count" = [2, 4]\n'))
    every = expand_matrix(matrix)
    assert len(every) == 4 * 2
    assert [every.index_of(suite) for suite in every] == list(range(8))
    assert every[0].suite_id.split("-q4-")[1].startswith("2-")
    assert specs(matrix, 0)["threads"].engine_options == {"thread_count": 2}
    assert specs(matrix, 1)["threads"].engine_options == {"thread_count": 4}
    assert specs(matrix, 1)["threads"].hash == specs(load(written(tmp_path)))["threads"].hash, "one run, one hash"


def test_set_gives_a_recipe_another_option(tmp_path: Path) -> None:
    override = Override(("variants", "threads", "thread_count"), 8, "--set variants.threads.thread_count")
    matrix = load(written(tmp_path), overrides=[override])
    assert specs(matrix)["threads"].engine_options == {"thread_count": 8}


@pytest.mark.parametrize(
    ("table", "code", "facts"),
    [
        ("[variants.ram]\nthread_count = 2", "ECRL-214", ("variants.ram: ", "dcp")),
        ("[variants.dcp]\nthread_count = 2", "ECRL-214", ("variants.dcp: ", 'engine = "dcp"')),
        ('[variants.ram]\nengine = "dpc"', "ECRL-214", ("variants.ram: ", "'dpc'", "'dcp'")),
        (
            '[variants.ram]\nengine = "dcp"\nthread_cout = 2',
            "ECRL-214",
            ("variants.ram.thread_cout: ", "'thread_cout'", "'thread_count'"),
        ),
        ('[variants.ram]\nengine = "dcp"\nthread_count = 0', "ECRL-214", ("found 0", ">= 1")),
        ('[variants.ram]\nengine = "dcp"\nthread_count = true', "ECRL-214", ("found True", ">= 1")),
        ('[variants.ram]\nengine = "blocking"\nx = 1', "ECRL-214", ("variants.ram.x: ", "engine blocking", "'x'")),
        ('[variants.reference]\nengine = "dcp"', "ECRL-214", ("variants.reference: ",)),
        ('[variants.dcp]\nengine = "blocking"', "ECRL-214", ("variants.dcp: ", "engine = 'blocking'")),
        ('[variants."a b"]\nengine = "dcp"', "ECRL-214", ("'a b'", "40")),
        ('[axes]\n"variants.threads.engine" = ["dcp"]', "ECRL-213", ("axes.variants.threads.engine: ",)),
        ('[axes]\n"variants.threads.thread_cout" = [1]', "ECRL-213", ("engine dcp", "'thread_cout'")),
        ('[axes]\n"variants.threads.thread_count" = [0]', "ECRL-213", ("found 0", ">= 1")),
    ],
)
def test_a_recipe_that_cannot_be_meant_is_told_with_its_code(
    tmp_path: Path, table: str, code: str, facts: tuple[str, ...]
) -> None:
    assert has_error(problems(written(tmp_path, f"{TABLES}{table}\n")), code, *facts)


def test_a_variant_without_a_table_must_be_an_engine(tmp_path: Path) -> None:
    told = problems(written(tmp_path, "", 'variants = ["reference", "ram"]'))
    assert has_error(told, "ECRL-211", "matrix.variants #2", "'ram'")


def test_a_repeat_has_the_recipe_of_its_variant(tmp_path: Path) -> None:
    suite = expand_matrix(load(written(tmp_path)))[0]
    (again,) = build_run_specs(suite, 1337, ("threads-aa",), **PLACE)
    assert (again.variant, again.folder_name) == ("threads", "threads-aa")
    assert again.recipe == suite.recipes["threads"]


def test_a_variant_that_is_called_like_the_repeat_of_another_one_is_none(tmp_path: Path) -> None:
    variants = 'variants = ["blocking", "overlapped", "threads", "threads-aa"]'
    tables = f'{TABLES}[variants.threads-aa]\nengine = "dcp"\nthread_count = 2\n'
    suite = expand_matrix(load(written(tmp_path, tables, variants)))[0]
    (own,) = build_run_specs(suite, 1337, ("threads-aa",), **PLACE)
    assert own.variant == "threads-aa"
    told = problems(written(tmp_path, f'{tables}[run]\naa = ["threads"]\n', variants))
    assert has_error(told, "ECRL-214", "run.aa: found 'threads'", "'threads-aa'")


def test_a_matrix_may_repeat_only_what_it_runs(tmp_path: Path) -> None:
    told = problems(written(tmp_path, '[run]\naa = ["torch-save"]\n', 'variants = ["reference", "blocking"]'))
    assert has_error(told, "ECRL-214", "run.aa: ", "'torch-save'", "blocking")


def test_narrowed_variants_leave_out_repeats_and_older_files_mean_the_reference(tmp_path: Path) -> None:
    narrow = Override(("matrix", "variants"), ["blocking"], "--variants")
    path = written(tmp_path, '[run]\naa = ["reference"]\n', 'variants = ["reference", "blocking"]')
    assert load(path, overrides=[narrow]).run.aa == ["reference"]
    path = written(tmp_path, TABLES + "[run]\naa = true\n", VARIANTS)
    assert load(path).run.aa == ["reference"]
    path = written(tmp_path, TABLES + "[run]\naa = false\n", VARIANTS)
    assert load(path).run.aa == []
