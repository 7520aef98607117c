"""The embedded images: what they are, that damage is noticed, and that they can be made again."""

import hashlib
import json
import os
import shutil
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from ecrl import plugins
from ecrl.workloads import dataset as dataset_module
from ecrl.workloads.dataset import EMBEDDED
from ecrl.workloads.datasets import _build_fashion_mini as generator
from ecrl.workloads.datasets.fashion_mini import IMAGES_FILE, PROVENANCE_FILE
from tests.errors import raises
from tests.unit.workloads import idx_miniature

DATASET = plugins.load("dataset", "fashion-mini")
# Debian's package dataset-fashion-mnist installs here; a folder it was unpacked to can be named instead
DEBIAN = Path(os.environ.get("FASHION_MNIST_SOURCE", "/usr/share/datasets/fashion-mnist"))


def test_it_has_500_images_of_each_class() -> None:
    data = DATASET.load(None)
    assert np.bincount(data.labels.numpy()).tolist() == [500] * 10
    assert not bool(data.images[:, :, :2].any()), "the padding is black"
    assert bool(data.images[:, :, 2:30, 2:30].any())


def test_the_record_describes_the_arrays() -> None:
    record = json.loads((EMBEDDED / PROVENANCE_FILE).read_text(encoding="utf-8"))
    with np.load(EMBEDDED / IMAGES_FILE, allow_pickle=False) as arrays:
        found = {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            }
            for name, array in arrays.items()
        }
    assert found == record["arrays"]
    assert (EMBEDDED / record["licence"]).read_text(encoding="utf-8").count("Zalando SE") == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_installation_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    for name in (IMAGES_FILE, PROVENANCE_FILE):
        shutil.copy(EMBEDDED / name, tmp_path)
    monkeypatch.setattr(dataset_module, "EMBEDDED", tmp_path)
    DATASET.check(None)
    victim = tmp_path / IMAGES_FILE
    content = bytearray(victim.read_bytes())
    content[1_000_000] ^= 1
    if damage == "remove":
        victim.unlink()
    else:
        victim.write_bytes(content if damage == "flip" else content[:-100])
    for ask in (DATASET.check, DATASET.load):
        with raises("ECRL-508", "fashion_mini.npz", "reinstall ecrl"):
            ask(None)


def test_the_writer_gives_the_same_bytes_at_another_time(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a": np.arange(600, dtype=np.uint8).reshape(2, 300), "b": np.zeros(3, np.uint8)}
    first = generator.npz_bytes(arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert generator.npz_bytes({name: array.copy(order="F") for name, array in arrays.items()}) == first


def test_what_the_writer_wrote_numpy_reads(tmp_path: Path) -> None:
    arrays = {"a": np.arange(600, dtype=np.uint8).reshape(2, 300), "b": np.zeros(3, np.uint8)}
    path = tmp_path / "x.npz"
    path.write_bytes(generator.npz_bytes(arrays))
    with np.load(path, allow_pickle=False) as read:
        assert list(read) == ["a", "b"]
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


def test_the_first_of_each_class_are_chosen_in_file_order() -> None:
    labels = np.array([*range(10), 3, *range(10), *range(10)], np.uint8)
    chosen = generator.pick_first_of_each_class(labels, 2)
    assert chosen.tolist() == [n for n in range(21) if n != 14]
    with pytest.raises(ValueError, match=r"classes \[0, 1, 2, 4"):
        generator.pick_first_of_each_class(labels, 4)


def test_the_generator_refuses_other_source_files(tmp_path: Path) -> None:
    idx_miniature.write(tmp_path, ".", compressed=True)
    with pytest.raises(ValueError, match=r"\.gz is not"):
        generator.build(tmp_path)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason=f"needs the files of Debian's dataset-fashion-mnist in {DEBIAN}")
def test_the_embedded_files_are_made_again_byte_for_byte() -> None:
    made = generator.build(DEBIAN)
    record, embedded = (json.loads(text) for text in (made[PROVENANCE_FILE], (EMBEDDED / PROVENANCE_FILE).read_bytes()))
    assert record["arrays"] == embedded["arrays"]
    if embedded["compression"]["zlib"] != zlib.ZLIB_RUNTIME_VERSION:
        pytest.skip(f"the arrays are the same; the bytes are zlib {embedded['compression']['zlib']}'s")
    for name, content in made.items():
        assert content == (EMBEDDED / name).read_bytes(), name
