"""Writes Fashion-MNIST folders of a few images, for tests."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np

from ecrl.workloads.images import fashion

NUM_IMAGES = 30


def contents(num_images: int = NUM_IMAGES) -> dict[str, bytes]:
    """The two training files, name -> uncompressed content."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (num_images, 28, 28), dtype=np.uint8).tobytes()
    labels = rng.integers(0, 10, num_images, dtype=np.uint8).tobytes()
    count = num_images.to_bytes(4, "big")
    side = (28).to_bytes(4, "big")
    return {
        fashion.TRAIN_IMAGES: bytes([0, 0, 8, 3]) + count + side + side + pixels,
        fashion.TRAIN_LABELS: bytes([0, 0, 8, 1]) + count + labels,
    }


def write(root: Path, place: str, compressed: bool = False, declare: bool = True) -> Path:
    """Write the files to `root/place`, and with `declare` their md5s to `root/checksums.json`; returns the folder."""
    folder = root / place
    folder.mkdir(parents=True, exist_ok=True)
    files = contents()
    for name, content in files.items():
        if compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    if declare:
        table = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        (root / "checksums.json").write_text(json.dumps(table), encoding="utf-8")
    return folder
