"""Regenerate `fashion_mini.npz` and its provenance record, byte for byte, from the four idx files.

    dpkg-deb -x dataset-fashion-mnist_*_all.deb TMP
    python -m ecrl.workloads.datasets._build_fashion_mini TMP/usr/share/datasets/fashion-mnist

The bytes depend on the source files and on the zlib that compresses; the record names both.
"""

import argparse
import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecrl.workloads.dataset import EMBEDDED
from ecrl.workloads.datasets.fashion_mini import IMAGES_FILE, PROVENANCE_FILE
from ecrl.workloads.images import fashion, idx

Array = np.ndarray[Any, Any]

PER_CLASS = {"train": 500, "test": 100}
_SOURCES = {
    "train": (fashion.TRAIN_IMAGES, fashion.TRAIN_LABELS),
    "test": (fashion.TEST_IMAGES, fashion.TEST_LABELS),
}
_LEVEL = 9
_UNIX = 3


def pick_first_of_each_class(labels: Array, per_class: int) -> Array:
    """Indices of the first `per_class` items of every class, in file order.

    Raises:
        ValueError: a class has fewer items.
    """
    firsts = [np.flatnonzero(labels == c)[:per_class] for c in range(fashion.NUM_CLASSES)]
    if short := [c for c, indices in enumerate(firsts) if len(indices) < per_class]:
        raise ValueError(f"classes {short} have fewer than {per_class} items")
    return np.sort(np.concatenate(firsts))


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """An npz file of the arrays in the given order. Equal arrays give equal bytes."""
    # numpy's own writer stores the time.
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = _UNIX  # the default is the current platform
            member.external_attr = 0o644 << 16
            npy = io.BytesIO()
            np.lib.format.write_array(npy, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
            archive.writestr(member, npy.getvalue(), compresslevel=_LEVEL)
    return file.getvalue()


def select(source: Path) -> dict[str, Array]:
    """The subset's arrays: `{train,test}_images` uint8 [N, 28, 28] and `{train,test}_labels` uint8 [N].

    Raises:
        ValueError: a source file is damaged or differs from the published one.
    """
    arrays = {}
    for split, (images_name, labels_name) in _SOURCES.items():
        images, labels = _load_published(source, images_name, (28, 28)), _load_published(source, labels_name, ())
        chosen = pick_first_of_each_class(labels, PER_CLASS[split])
        arrays[f"{split}_images"], arrays[f"{split}_labels"] = images[chosen], labels[chosen]
    return arrays


def build(source: Path) -> dict[str, bytes]:
    """The files of the embedded data set, name -> content, from a folder with the four `.gz` idx files.

    Raises:
        ValueError: see `select`.
        FileNotFoundError: a source file is absent.
    """
    arrays = select(source)
    npz = npz_bytes(arrays)
    record = {
        "data_set": "fashion-mini",
        "npz": IMAGES_FILE,
        "npz_sha256": hashlib.sha256(npz).hexdigest(),
        "npz_bytes": len(npz),
        "compression": {"method": "deflate", "level": _LEVEL, "zlib": zlib.ZLIB_RUNTIME_VERSION},
        "arrays": {
            name: {
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
            }
            for name, array in arrays.items()
        },
        "selection": "the first 500 (train) and 100 (test) images of each class, kept in file order; no random state",
        "source": {
            "package": "dataset-fashion-mnist",
            "version": "0.0~git20200523.55506a9-1",
            "archive": "Debian",
            "folder": "/usr/share/datasets/fashion-mnist",
            "upstream": "https://github.com/zalandoresearch/fashion-mnist",
            "content_md5": fashion.CONTENT_MD5,
            "note": "With the file names and times of 2017-08-31 restored to their gzip headers, Debian's four"
            " files have the md5s of the publisher's downloads, as torchvision lists them: the content is the same.",
        },
        "licence": "LICENSE-fashion-mnist.txt",
    }
    return {IMAGES_FILE: npz, PROVENANCE_FILE: (json.dumps(record, indent=2) + "\n").encode()}


def _load_published(source: Path, name: str, shape: tuple[int, ...]) -> Array:
    content = idx.read_content(source / f"{name}.gz")
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != fashion.CONTENT_MD5[name]:
        raise ValueError(f"{source / name}.gz is not the published file")
    return idx.parse(content, shape, name)


def main() -> None:
    """Command line: the folder with the four idx files, and where to write."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded data set fashion-mini.")
    parser.add_argument("source", type=Path, help="folder with the four *-ubyte.gz files")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    for name, content in build(arguments.source).items():
        (arguments.out / name).write_bytes(content)
        print(f"{arguments.out / name}: {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
