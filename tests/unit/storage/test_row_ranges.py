"""The rows of a split tensor must add up, whoever wrote them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ecrl.storage.row_ranges import find_gap


def write(folder: Path, *ranks: dict[str, tuple[int, int, list[int]]]) -> list[tuple[list[Path], Path]]:
    """The files of ranks that saved these rows: name -> (begin, rows, whole shape)."""
    files = []
    for rank, parts in enumerate(ranks):
        tensors, facts = folder / f"shard-{rank}.safetensors", folder / f"rank-{rank}.json"
        save_file({n: torch.zeros(rows, *shape[1:]) for n, (_, rows, shape) in parts.items()}, tensors)
        facts.write_text(json.dumps({"shards": {n: {"shape": s, "begin": b} for n, (b, _, s) in parts.items()}}))
        files.append(([tensors], facts))
    return files


def test_rows_that_add_up_in_any_order_are_whole(tmp_path: Path) -> None:
    assert find_gap(write(tmp_path, {"w": (3, 4, [7, 2]), "b": (0, 1, [1])}, {"w": (0, 3, [7, 2])})) is None
    for whole in ({}, {"meta": {"shards": 3}}):  # nothing is split
        (tmp_path / "rank-0.json").write_text(json.dumps(whole))
        assert find_gap([([tmp_path / "shard-0.safetensors"], tmp_path / "rank-0.json")]) is None


@pytest.mark.parametrize(
    ("ranks", "told"),
    [
        ([{"w": (0, 3, [7, 2])}, {"w": (4, 3, [7, 2])}], "w: rows 3 to 4 are saved by no rank"),
        ([{"w": (1, 3, [4, 2])}], "w: rows 0 to 1 are saved by no rank"),
        ([{"w": (0, 4, [7, 2])}, {"w": (3, 4, [7, 2])}], "w: rows 3 to 4 are saved twice"),
        ([{"w": (0, 3, [7, 2])}, {"w": (3, 3, [7, 2])}], "w: 6 of 7 rows are saved"),
        ([{"w": (0, 3, [7, 2])}, {"w": (3, 4, [8, 2])}], "w: found the whole shapes [7, 2] and [8, 2], expected one"),
    ],
)
def test_rows_that_do_not_add_up_are_told(tmp_path: Path, ranks: Any, told: str) -> None:
    assert find_gap(write(tmp_path, *ranks)) == told


def test_the_parts_of_a_rank_may_be_in_several_files(tmp_path: Path) -> None:
    [(tensors, facts)] = write(tmp_path, {"w": (0, 3, [7, 2]), "frozen": (0, 4, [4])})
    save_file({"w": torch.zeros(3, 2)}, tensors[0])
    save_file({"frozen": torch.zeros(4)}, more := tmp_path / "frozen-0.safetensors")
    assert find_gap([([*tensors, more], facts)]) == "w: 3 of 7 rows are saved"
    assert "does not describe" in str(find_gap([(tensors, facts)]))


@pytest.mark.parametrize("place", [{"shape": [7, 3], "begin": 0}, {"shape": 7, "begin": 0}, {"begin": 0}, [], "x"])
def test_a_rank_file_that_describes_something_else_is_told(tmp_path: Path, place: Any) -> None:
    files = write(tmp_path, {"w": (0, 7, [7, 2])})
    files[0][1].write_text(json.dumps({"shards": {"w": place}}))
    assert "0" in str(find_gap(files))
    files[0][1].write_text(json.dumps({"shards": {"other": {"shape": [7, 2], "begin": 0}}}))
    assert "does not describe" in str(find_gap(files))
