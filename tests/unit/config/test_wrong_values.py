"""Every key of a matrix with every wrong kind of value: a plain message at its place, and nothing of pydantic's."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from ecrl.config.load import load
from ecrl.config.matrix import Axes, CheckpointTable, Claim, Experiment, Matrix, RunOptions, TrainTable
from ecrl.errors import InvalidMatrixError

TABLES: dict[str, type[BaseModel]] = {
    "experiment": Experiment,
    "matrix": Axes,
    "train": TrainTable,
    "checkpoint": CheckpointTable,
}
WRONG = (
    "inf", "nan", "-1", "10000000000000000000000", "1.5", '"x"', '""', "true", "[]", '["x"]', "[inf]", "[[1]]", "{}",
    "{ x = 1 }", "1979-05-27", "07:32:00", "[1979-05-27]", "[{ x = 1 }]", "[true]", '[1, "a", inf]', '[""]',
)  # fmt: skip
INTERNAL = re.compile(
    r"\w\[\w|union|function-|Value error|literal|nullable|Input should|pydantic|datetime|\.(str|int)\b"
)

GOOD = {
    "matrix": {"datasets": '["noise"]', "models": '["cnn"]', "checkpoint_every": "[2]", "variants": '["blocking"]'},
    "train": {"steps": "4", "nproc": "1"},
}
CLAIM = {
    "name": '"a"',
    "compare": '["overlapped", "blocking"]',
    "metric": '"goodput_steps_per_s"',
    "expect": '"ratio > 1"',
}
ENTRY_KEYS = ("at", "kind", "rank", "ranks", "phase", "mtbf_s", "count", "seed", "interval")
PLACES = (
    "[failures]\nmid = {}", "[failures]\nmid = [{}]", "[axes]\n'train.lr' = {}", "[axes]\n'train.nproc' = [{}]",
    "[[exclude]]\nmodel = {}", "[[exclude]]\n'train.lr' = {}\n[axes]\n'train.lr' = [0.1, 0.2]", "[variants]\nx = {}",
    "[variants.x]\nengine = {}", "[variants.x]\nengine = 'overlapped'\nthreads = {}", "[profiles]\nx = {}",
)  # fmt: skip


def write(tables: dict[str, dict[str, str]], rest: str = "") -> str:
    keys = {name: "".join(f"{key} = {value}\n" for key, value in table.items()) for name, table in tables.items()}
    return "".join(f"[{name}]\n{text}" for name, text in keys.items()) + rest


def list_texts(wrong: str) -> Iterator[str]:
    """Matrices in which this value stands at one place."""
    for table, model in (TABLES | {"run": RunOptions}).items():
        for key in model.model_fields:
            yield write(GOOD | {table: GOOD.get(table, {}) | {key: wrong}})
    for key in Claim.model_fields:
        yield write(GOOD, "[[claims]]\n" + "".join(f"{k} = {v}\n" for k, v in (CLAIM | {key: wrong}).items()))
    yield write(GOOD, write({"[claims]": CLAIM | {"where": f"{{ model = {wrong} }}"}}))
    for key in Matrix.model_fields:
        yield f"{key} = {wrong}\n" + write({name: keys for name, keys in GOOD.items() if name != key})
    for key in ENTRY_KEYS:
        yield write(GOOD, f"[failures]\nmid = [{{ {key} = {wrong} }}]")
        yield write(GOOD, f"[failures]\nmid = [{{ at = 3, {'x' if key == 'at' else key} = {wrong} }}]")
    for place in PLACES:
        yield write(GOOD, place.format(wrong))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_is_a_plain_message_wherever_it_stands(tmp_path: Path, wrong: str) -> None:
    path, refused = tmp_path / "m.toml", 0
    for text in list_texts(wrong):
        path.write_text(text)
        try:
            load(path)
        except InvalidMatrixError as error:
            refused += 1
            told = [line.replace(str(path), "m.toml") for line in str(error).splitlines()]
            assert not any(map(INTERNAL.search, told)), f"{text}\n{told}"
    assert refused > 20


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("steps", '"20"', "without quotes: 20"),
        ("lr", '" 1e-3 "', "without quotes: 1e-3"),
        ("deterministic", '"true"', "without quotes: true"),
        ("steps", '"many"', "expected integer"),
    ],
)
def test_a_number_in_quotes_is_told_to_stand_without_them(tmp_path: Path, key: str, value: str, expected: str) -> None:
    path = tmp_path / "m.toml"
    path.write_text(write(GOOD | {"train": GOOD["train"] | {key: value}}))
    with pytest.raises(InvalidMatrixError) as raised:
        load(path)
    assert f"{expected} [ECRL-211]" in str(raised.value)


def test_a_lone_seed_in_quotes_is_told_to_be_a_list_without_them(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(write(GOOD | {"matrix": GOOD["matrix"] | {"seeds": '"2"'}}))
    with pytest.raises(InvalidMatrixError) as raised:
        load(path)
    assert "e.g. seeds = [2] [ECRL-211]" in str(raised.value)


@pytest.mark.parametrize(
    ("value", "place", "expected"),
    [
        ("[inf]", "#1.model #1", "found inf, expected boolean, integer, a finite number or string"),
        ("{}", "#1.model", "found {}, expected boolean, integer, number, string or list"),
        ('["a", {}]', "#1.model #2", "found {}, expected boolean, integer, number or string"),
    ],
)
def test_a_value_of_none_of_several_types_is_one_message_that_names_them_all(
    tmp_path: Path, value: str, place: str, expected: str
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(write(GOOD, f"[[exclude]]\nmodel = {value}\n"))
    with pytest.raises(InvalidMatrixError) as raised:
        load(path)
    assert [line for line in str(raised.value).splitlines() if "ECRL-211" in line] == [
        f"{path}:10: exclude {place}: {expected} [ECRL-211]"
    ]
