"""A model that cannot be spread over the ranks, or not be saved then, is refused before anything starts."""

from pathlib import Path

import pytest

from ecrl.config.load import Override, load
from ecrl.config.suite import expand_matrix
from tests.errors import raises
from tests.unit.config.test_axes import written


def read(tmp_path: Path, *values: tuple[str, object], more: str = "") -> int:
    overrides = [Override(tuple(key.split(".")), value, f"--set {key}") for key, value in values]
    return len(expand_matrix(load(written(tmp_path, more), overrides=overrides)))


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ([("train.parallel", "hsdp")], ("train.shard_ranks", "found 0", "1, 2, 4")),
        ([("train.parallel", "hsdp"), ("train.shard_ranks", 3)], ("found 3", "train.nproc = 4")),
        ([("train.parallel", "fsdp2"), ("train.shard_ranks", 2)], ("train.shard_ranks", "only hsdp")),
        ([("train.shard_ranks", 2)], ("parallel = ddp",)),
        (
            [("train.parallel", "fsdp2"), ("matrix.variants", ["reference", "blocking", "torch-save"])],
            ("'torch-save'", "blocking", "dcp", "overlapped"),
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, values: list[tuple[str, object]], facts: tuple[str, ...]
) -> None:
    with raises("ECRL-220", *facts):
        read(tmp_path, ("train.nproc", 4), *values)


def test_an_axis_is_judged_by_the_suites_that_it_makes(tmp_path: Path) -> None:
    axes = '[axes]\n"train.parallel" = ["ddp", "fsdp2"]\n"train.nproc" = [2, 4]\n"train.shard_ranks" = [0, 2]\n'
    with raises("ECRL-220", "only hsdp"):
        read(tmp_path, more=axes)
    assert read(tmp_path, more=axes + '[[exclude]]\n"train.shard_ranks" = 2\n') == 4 * 4
