"""A folder of token files: what is trained on, and what is refused with which words."""

from pathlib import Path

import numpy as np
import pytest

from ecrl import plugins
from ecrl.errors import DataMissingError

DATASET = plugins.load("dataset", "tokens")


def write(path: Path, *ids: int) -> None:
    np.array(ids, "<u2").tofile(path)


def test_every_training_file_is_read_in_the_order_of_names_and_none_of_evaluation(tmp_path: Path) -> None:
    write(tmp_path / "b_train.bin", 3, 50256)
    write(tmp_path / "a_train.bin", 1, 2)
    write(tmp_path / "val.bin", 7)
    write(tmp_path / "a_val_000001.bin", 7)
    DATASET.check(tmp_path)
    assert [tokens.tolist() for tokens in DATASET.load(tmp_path).files] == [[1, 2], [3, 50256]]


def test_a_folder_of_its_own_comes_first(tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir()
    write(tmp_path / "tokens" / "train.bin", 5)
    write(tmp_path / "data_batch_1.bin", 6)
    assert [tokens.tolist() for tokens in DATASET.load(tmp_path).files] == [[5]]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\1\0\2", "found 3 bytes, expected an even number"),
        ((20240520).to_bytes(4, "little") + bytes(1020), "header of llm.c (GPT-2)"),
        ((20240801).to_bytes(4, "little") + bytes(1020), "header of llm.c (Llama 3)"),
        (b"\x93NUMPY" + bytes(122), "a NumPy file"),
    ],
)
def test_what_is_no_token_file_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "train.bin").write_bytes(content)
    for refused in (DATASET.check, DATASET.load):
        with pytest.raises(DataMissingError) as raised:
            refused(tmp_path)
        assert told in str(raised.value)
        assert "train.bin" in str(raised.value)


def test_only_files_of_evaluation_are_none_to_train_on(tmp_path: Path) -> None:
    write(tmp_path / "val.bin", 1, 2)
    with pytest.raises(DataMissingError, match=r"found no \*\.bin"):
        DATASET.check(tmp_path)


def test_an_id_beyond_the_vocabulary_is_named_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "train.bin", 1, 50257, 3)
    with pytest.raises(DataMissingError, match="token 1 is 50257, expected ids below 50257"):
        DATASET.check(tmp_path)


def test_too_few_tokens_for_a_step_are_told_before_the_start(tmp_path: Path) -> None:
    write(tmp_path / "train.bin", *range(9))
    DATASET.check_size(tmp_path, 4, 2)
    with pytest.raises(DataMissingError) as raised:
        DATASET.check_size(tmp_path, 4, 3)
    assert "found 2 sequences of 4 tokens (9 tokens), expected at least 3" in str(raised.value)
    assert "train.sequence_length" in str(raised.value)
