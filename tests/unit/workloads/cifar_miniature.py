"""Writes CIFAR archives of a few images, pickled as the published ones are, for tests."""

import copyreg
import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

FILES = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)], "test_batch", "batches.meta"),
    "cifar100": ("cifar-100-python", ["train"], "test", "meta"),
}
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
IMAGES_PER_FILE = 20


def write(root: Path, name: str, declare: bool = True) -> tuple[np.ndarray[Any, Any], list[int]]:
    """The miniature of a data set below `root`; with `declare`, `ROOT/checksums.json` names its md5s.

    Returns:
        The training images uint8 [N, 3, 32, 32] and labels that were written.
    """
    folder_name, train, test, meta = FILES[name]
    folder = root / folder_name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    fine = name == "cifar100"
    all_pixels, all_labels = [], []
    for file_name in [*train, test]:
        pixels = rng.integers(0, 256, (IMAGES_PER_FILE, 3072), dtype=np.uint8)
        labels = rng.integers(0, NUM_CLASSES[name], IMAGES_PER_FILE).tolist()
        batch = {"data": pixels, "fine_labels" if fine else "labels": labels}
        (folder / file_name).write_bytes(python2_pickle(batch))
        if file_name != test:
            all_pixels.append(pixels)
            all_labels += labels
    names = [f"class {i}" for i in range(NUM_CLASSES[name])]
    (folder / meta).write_bytes(python2_pickle({"fine_label_names" if fine else "label_names": names}))
    if declare:
        (root / "checksums.json").write_text(json.dumps(table(folder)), encoding="utf-8")
    return np.concatenate(all_pixels).reshape(-1, 3, 32, 32), all_labels


def table(folder: Path) -> dict[str, str]:
    """File name -> md5 of everything in a folder."""
    return {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def python2_pickle(value: object) -> bytes:
    """A protocol 2 pickle whose numpy dtypes are rebuilt with an int for `align`, as Python 2's numpy wrote them.

    The published files have `dtype('u1', 0, 1)`, of which numpy 2.4.0 warns and later versions do not; all of 2.4
    warn of `dtype('u1', 0)`, which is what is written here.
    """
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol=2)
    pickler.dispatch_table = copyreg.dispatch_table.copy()
    pickler.dispatch_table[type(np.dtype(np.uint8))] = _reduce_dtype
    pickler.dump(value)
    return file.getvalue()


def _reduce_dtype(dtype: np.dtype[Any]) -> tuple[Any, ...]:
    reduced: Any = dtype.__reduce__()
    constructor, (kind, *_), state = reduced
    return constructor, (kind, 0), state
