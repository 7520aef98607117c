"""The idx reader and the folders that `fashion-mnist` accepts."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from ecrl import plugins
from ecrl.workloads.images import fashion, idx
from tests.errors import raises
from tests.unit.workloads import idx_miniature

DATASET = plugins.load("dataset", "fashion-mnist")
IMAGE = idx_miniature.contents()[fashion.TRAIN_IMAGES]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("place", ["FashionMNIST/raw", "."])
def test_each_layout_gives_the_same_images_padded_and_in_file_order(
    tmp_path: Path, place: str, compressed: bool
) -> None:
    idx_miniature.write(tmp_path, place, compressed)
    DATASET.check(tmp_path)
    data = DATASET.load(tmp_path)
    grey = np.frombuffer(IMAGE, np.uint8, offset=16).reshape(-1, 28, 28)
    expected = np.pad(grey, ((0, 0), (2, 2), (2, 2)))
    for channel in range(3):
        np.testing.assert_array_equal(data.images[:, channel].numpy(), expected)
    labels = idx_miniature.contents()[fashion.TRAIN_LABELS][8:]
    assert data.labels.tolist() == list(labels)


def test_a_set_that_is_not_the_published_one_must_be_declared(tmp_path: Path) -> None:
    idx_miniature.write(tmp_path, ".", declare=False)
    for ask in (DATASET.check, DATASET.load):
        with raises("ECRL-508", "md5", fashion.TRAIN_IMAGES, fashion.TRAIN_LABELS):
            ask(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", [fashion.TRAIN_IMAGES, fashion.TRAIN_LABELS])
@pytest.mark.parametrize("keep_bytes", [0, 3, 12, 30])
def test_a_half_downloaded_file_is_named(tmp_path: Path, name: str, compressed: bool, keep_bytes: int) -> None:
    folder = idx_miniature.write(tmp_path, "FashionMNIST/raw", compressed)
    victim = folder / (f"{name}.gz" if compressed else name)
    victim.write_bytes(victim.read_bytes()[:keep_bytes])
    for ask in (DATASET.check, DATASET.load):
        with raises("ECRL-508", f"{victim.name} is cut short"):
            ask(tmp_path)


def test_the_file_that_is_absent_is_named(tmp_path: Path) -> None:
    (idx_miniature.write(tmp_path, "FashionMNIST/raw") / fashion.TRAIN_LABELS).unlink()
    with raises("ECRL-508", f"missing (plain or .gz) here and in FashionMNIST/raw: {fashion.TRAIN_LABELS}"):
        DATASET.load(tmp_path)


def test_the_bytes_of_a_damaged_archive_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    packed = bytearray(gzip.compress(IMAGE, mtime=0))
    packed[-6] ^= 1  # in the CRC
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"x\.gz"):
        idx.read_content(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes([0, 0, 8, 1]) + IMAGE[4:], "0x00000801, expected 0x00000803"),
        (IMAGE[:8] + bytes([0, 0, 0, 27]) + IMAGE[12:], r"\(27, 28\), expected \(28, 28\)"),
        (IMAGE[:-1], "cut short.* 23,535 bytes.* 23,536"),
        (IMAGE + b"\0", "too long: 23,537 bytes"),
        (IMAGE[:15], "cut short: 15 bytes.* 16"),
    ],
    ids=["magic", "size", "one byte less", "one byte more", "header"],
)
def test_an_idx_file_is_taken_only_as_a_whole(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        idx.parse(content, (28, 28), "images")
